from typing import Any

import pytest

from egress_policy.errors import Reason
from egress_policy.model.decision import Egress, Target
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy, Rule
from egress_policy.policy.engine import decide, explain, udp_refusal
from egress_policy.policy.snapshot import Snapshot, build_snapshot
from tests.helpers.filters import compile_word

WEB = Proxy(name="web", host="web.example", family="ipv6")
OFF = Proxy(name="off", host="off.example", status="inactive")
POOL = Pool(name="pool", members=("web",), strategy="first")
TARGET = Target("a.example", 443, "192.0.2.1")
UDP = Target("a.example", 443, "192.0.2.1", "udp")


def build(*rules: Rule, default: Any = "refuse") -> Snapshot:
    policy = Policy(proxies=(WEB, OFF), pools=(POOL,), rules=rules, default=default)
    return build_snapshot(policy, compile_word)


def verdicts(snapshot: Snapshot, target: Target = TARGET) -> list[str]:
    return [trace.verdict for trace in explain(snapshot, target).listed]


def test_first_match_wins() -> None:
    snapshot = build(
        Rule(use="refuse", hosts=("b.example",)), Rule(use="web", name="x"), Rule(use="direct")
    )
    decision = decide(snapshot, TARGET)
    assert (decision.outcome, decision.rule, decision.refusal) == ("egress", "x", None)
    assert decision.members == (Egress(WEB, "ipv6"),)
    assert decision.why == "rule x (no condition) matches"
    assert not decision.unmatched


def test_pool_is_handed_on_with_its_strategy() -> None:
    decision = decide(build(Rule(use="pool")), TARGET)
    assert (decision.pool, decision.picked_from) == ("pool", POOL)


def test_default_direct_is_taken_unmatched() -> None:
    decision = decide(build(default="direct"), TARGET)
    assert (decision.outcome, decision.rule, decision.unmatched) == ("egress", "default", True)
    assert decision.members == (Egress(None),)


def test_default_refuse_is_a_refusal() -> None:
    decision = decide(build(), TARGET)
    assert (decision.outcome, decision.unmatched) == ("refuse", True)
    assert decision.refusal
    assert decision.refusal.reason is Reason.DEFAULT
    assert (decision.refusal.host, decision.refusal.rule) == ("a.example", "default")


def test_refuse_rule_names_itself_and_the_target() -> None:
    decision = decide(build(Rule(use="refuse")), TARGET)
    assert decision.outcome == "refuse"
    assert decision.refusal
    assert decision.refusal.reason is Reason.RULE
    assert (decision.refusal.host, decision.refusal.rule) == ("a.example", "#1")


def test_proxy_that_cannot_be_used_does_not_fall_through() -> None:
    decision = decide(build(Rule(use="off"), Rule(use="direct"), default="direct"), TARGET)
    assert decision.outcome == "refuse"
    assert decision.refusal
    assert decision.refusal.reason is Reason.DISABLED
    assert decision.refusal.host == "off.example"


def test_filter_that_needs_the_request_leaves_it_undecided() -> None:
    snapshot = build(Rule(use="web", filter="no"), Rule(use="web", filter="later"), Rule(use="web"))
    decision = decide(snapshot, TARGET)
    assert (decision.outcome, decision.rule, decision.members) == ("undecided", "#2", ())
    assert decision.refusal is None
    assert verdicts(snapshot) == ["not matched", "needs the request", "not reached", "not reached"]


def test_rule_before_an_open_filter_decides_for_sure() -> None:
    decision = decide(build(Rule(use="web", filter="yes"), Rule(use="web", filter="later")), TARGET)
    assert (decision.outcome, decision.rule) == ("egress", "#1")


def test_open_filter_of_a_rule_for_others_is_not_asked() -> None:
    decision = decide(
        build(Rule(use="web", filter="later", hosts=("b.example",)), Rule(use="web")), TARGET
    )
    assert (decision.outcome, decision.rule) == ("egress", "#2")


@pytest.mark.parametrize("use", ["web", "pool", WEB])
def test_udp_does_not_leave_by_a_proxy(use: Any) -> None:
    decision = decide(build(Rule(use=use)), UDP)
    assert decision.outcome == "refuse"
    assert decision.refusal
    assert decision.refusal.reason is Reason.UDP_OVER_PROXY
    assert (decision.refusal.host, decision.refusal.rule) == ("a.example", "#1")


def test_udp_leaves_direct_and_is_refused_for_the_first_reason() -> None:
    assert decide(build(Rule(use="direct")), UDP).outcome == "egress"
    decision = decide(build(Rule(use="off")), UDP)
    assert decision.refusal
    assert decision.refusal.reason is Reason.DISABLED


def test_udp_refusal_names_proxy_and_rule() -> None:
    refusal = udp_refusal("web", "default")
    assert (refusal.reason, refusal.proxy, refusal.rule) == (
        Reason.UDP_OVER_PROXY,
        "web",
        "default",
    )


def test_explain_says_which_condition_failed() -> None:
    snapshot = build(
        Rule(use="web", hosts=("*.b.example",)),
        Rule(use="web", clients=("198.51.100.0/24",)),
        Rule(use="web", ports=(80,)),
        Rule(use="web", filter="no"),
        Rule(use="web", name="this", ports=(443,)),
        Rule(use="refuse"),
    )
    traces = explain(snapshot, TARGET).listed
    assert [trace.verdict for trace in traces] == [
        *["not matched"] * 4,
        "matched",
        *["not reached"] * 2,
    ]
    words = ["host a.example", "client 192.0.2.1", "port 443", "filter no", "rule this"]
    assert all(word in trace.why for word, trace in zip(words, traces, strict=False))
    assert [trace.rule for trace in traces] == ["#1", "#2", "#3", "#4", "this", "#6", "default"]


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("www.example.org", "matched"),
        ("example.org", "not matched"),
        (".example.org", "not matched"),
        ("fe80::1%x.example.org", "not matched"),
    ],
)
def test_explain_matches_patterns_as_decide_does(host: str, verdict: str) -> None:
    snapshot = build(Rule(hosts=("*.example.org",), use="refuse"))
    target = Target(host, 443, "192.0.2.1")
    assert explain(snapshot, target).listed[0].verdict == verdict
    assert (decide(snapshot, target).rule == "#1") == (verdict == "matched")


def test_explain_ends_with_the_default() -> None:
    assert verdicts(build()) == ["matched"]
    assert explain(build(), TARGET).listed[-1].why == "no rule matches, the default is refuse"


@pytest.mark.parametrize(
    ("deciding", "before", "listed"),
    [
        (0, 0, range(10)),
        (7, 2, range(2, 12)),
        (18, 11, range(11, 21)),
        (None, 11, range(11, 21)),  # the default, which is the 21st
    ],
)
def test_explain_lists_so_many_around_the_one_that_decides(
    deciding: int | None, before: int, listed: range
) -> None:
    rules = [Rule(use="refuse", filter="no") for _ in range(20)]
    if deciding is not None:
        rules[deciding] = Rule(use="refuse", filter="later")
    snapshot = build(*rules)
    every = explain(snapshot, TARGET)
    some = explain(snapshot, TARGET, 10)
    assert (len(every.listed), every.before, every.after) == (21, 0, 0)
    assert some.listed == tuple(every.listed[number] for number in listed)
    assert (some.before, some.after) == (before, 21 - before - 10)
