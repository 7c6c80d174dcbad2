from ipaddress import IPv4Network, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from egress_policy.model.decision import Target
from egress_policy.model.network import Network, parse_client_network
from egress_policy.model.rule import Policy, Rule
from egress_policy.policy.engine import decide, explain
from egress_policy.policy.matching import RuleIndex, client_number
from egress_policy.policy.snapshot import build_snapshot
from tests.helpers.filters import VERDICTS, compile_word

_labels = st.sampled_from(["a", "b", "example", "xn--bcher-kva"])
_names = st.lists(_labels, min_size=1, max_size=5).map(".".join)
_literals = st.sampled_from(["192.0.2.1", "2001:db8::1", "fe80::1%eth0.example", "::"])
_patterns = st.one_of(
    st.just("*"), _names, _names.map("*.{}".format), st.sampled_from(["192.0.2.1", "2001:db8::1"])
)
_networks = st.sampled_from(
    [
        *("0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.1", "10.0.0.0/8"),
        *("::/0", "2001:db8::/32", "2001:db8::1", "::ffff:192.0.2.0/120", "::/64"),
    ]
).map(parse_client_network)
_clients = st.sampled_from(
    [
        *("192.0.2.1", "192.0.2.200", "::ffff:192.0.2.1", "10.1.2.3", "2001:db8::1"),
        *("fe80::1%eth0", "", "client replay", "::1"),
    ]
)
_ports = st.sampled_from([80, 443, 8443])
_words = st.sampled_from(["", *VERDICTS])


def _some[T](values: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(values, max_size=3).map(tuple)


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    stated = {
        "hosts": draw(_some(_patterns)),
        "clients": draw(_some(_networks)),
        "ports": draw(_some(_ports)),
        "filter": draw(_words),
    }
    return Rule.model_validate({"use": "direct"} | {key: v for key, v in stated.items() if v})


_targets = st.builds(Target, _names | _literals, _ports, _clients)


def _naive_host(pattern: str, host: str) -> bool:
    if pattern == "*":
        return True
    if not pattern.startswith("*."):
        return pattern == host
    labels, suffix = host.split("."), pattern[2:].split(".")
    return ":" not in host and len(labels) > len(suffix) and labels[-len(suffix) :] == suffix


def _naive_client(network: Network, client: str) -> bool:
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address) in network


def _fits(rule: Rule, target: Target) -> bool:
    return (
        (not rule.hosts or any(_naive_host(p, target.host) for p in rule.hosts))
        and (not rule.clients or any(_naive_client(n, target.client) for n in rule.clients))
        and (not rule.ports or target.port in rule.ports)
    )


def _scan(rules: list[Rule], target: Target) -> tuple[str, str]:
    for number, rule in enumerate(rules, 1):
        verdict = VERDICTS.get(rule.filter, True)
        if _fits(rule, target) and verdict is not False:
            return ("undecided" if verdict is None else "egress"), f"#{number}"
    return "refuse", "default"


@given(st.lists(_rules(), max_size=12), st.lists(_targets, min_size=1, max_size=5))
def test_decision_is_that_of_a_scan_over_all_rules(
    rules: list[Rule], targets: list[Target]
) -> None:
    policy = Policy(rules=tuple(rules), default="refuse")
    snapshot = build_snapshot(policy, compile_word)
    for target in targets:
        decision = decide(snapshot, target)
        assert (decision.outcome, decision.rule) == _scan(rules, target)
        [taken] = [
            trace.rule
            for trace in explain(snapshot, target).listed
            if trace.verdict in ("matched", "needs the request")
        ]
        assert taken == decision.rule


@given(st.lists(_rules(), max_size=12), _targets)
def test_candidates_are_in_order_and_all_fit(rules: list[Rule], target: Target) -> None:
    candidates = list(RuleIndex(rules).candidates(target))
    assert candidates == sorted(candidates)
    assert all(_fits(rules[number], target) for number in candidates)


def _candidates(target: Target, *rules: Rule) -> list[int]:
    return list(RuleIndex(rules).candidates(target))


def test_suffix_matches_sub_domains_at_any_depth_but_not_the_apex() -> None:
    rule = Rule(use="direct", hosts=("*.example.org",))
    for host in ("a.example.org", "a.b.c.example.org"):
        assert _candidates(Target(host, 1), rule) == [0]
    for host in ("example.org", "badexample.org", "example.org.evil", ".example.org", "org", ""):
        assert _candidates(Target(host, 1), rule) == []


def test_scope_id_of_a_literal_is_not_taken_for_a_domain() -> None:
    rule = Rule(use="direct", hosts=("*.lan",))
    assert _candidates(Target("fe80::1%br.lan", 1), rule) == []


def test_mapped_client_is_an_ipv4_client() -> None:
    rule = Rule(use="direct", clients=(IPv4Network("192.0.2.0/24"),))
    assert _candidates(Target("h", 1, "::ffff:192.0.2.9"), rule) == [0]
    assert _candidates(Target("h", 1, "::ffff:192.0.3.9"), rule) == []


def test_rule_behind_one_that_always_matches_is_left_out() -> None:
    rules = Rule(use="direct", filter="no"), Rule(use="direct"), Rule(use="refuse")
    assert _candidates(Target("h", 1), *rules) == [0, 1]


def test_client_that_is_no_address_has_no_number() -> None:
    assert client_number("") is None
    assert client_number("fe80::1%eth0") == (6, int(ip_address("fe80::1")))


def test_only_few_rules_are_looked_at_however_many_share_a_condition() -> None:
    networks = [parse_client_network(f"10.{n >> 8}.{n & 255}.0/24") for n in range(2000)]
    rules = [
        Rule(use="direct", hosts=("*.same.example",), clients=(network,), ports=(443,))
        for network in networks
    ]
    target = Target("a.same.example", 443, "10.7.1.9")
    assert list(RuleIndex(rules).candidates(target)) == [7 * 256 + 1]
