import dataclasses
from random import Random
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry, Reason
from egress_policy.model.decision import Egress, Refusal, Target
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import Policy, Rule
from egress_policy.policy.snapshot import Snapshot, build_snapshot
from tests.helpers.filters import compile_word

WEB = Proxy(name="web", host="web.example", family="ipv6")
SOCKS = Proxy(name="socks", host="socks.example", type="socks5")
OFF = Proxy(name="off", host="off.example", family="ipv4", status="inactive")


def build(*rules: Rule, pools: tuple[Pool, ...] = (), **options: Any) -> Snapshot:
    policy = Policy(proxies=(WEB, SOCKS, OFF), pools=pools, rules=rules)
    return build_snapshot(policy, compile_word, **options)


def refusal(snapshot: Snapshot) -> Refusal:
    resolution = snapshot.rules[0].resolution
    assert not resolution.members
    assert resolution.refusal
    return resolution.refusal


def members(*names: str, strategy: Any = "round-robin") -> tuple[Pool, ...]:
    return (Pool(name="pool", members=names, strategy=strategy),)


def test_names_are_resolved_to_egresses() -> None:
    rules = build(Rule(use="web"), Rule(use="direct", family="ipv4"), Rule(use=WEB)).rules
    assert [rule.resolution.members for rule in rules] == [
        (Egress(WEB, "ipv6"),),
        (Egress(None, "ipv4"),),
        (Egress(WEB, "ipv6"),),
    ]


def test_target_family_of_a_rule_overrides_that_of_the_proxy() -> None:
    proxy = WEB.model_copy(update={"target_family": "ipv4"})
    rules = (Rule(use="web"), Rule(use="web", target_family="ipv6"))
    snapshot = build_snapshot(Policy(proxies=(proxy,), rules=rules), compile_word)
    families = [rule.resolution.members[0].target_family for rule in snapshot.rules]
    assert families == ["ipv4", "ipv6"]


def test_target_family_of_a_rule_reaches_inline_proxies_and_all_members_of_a_pool() -> None:
    rules = (
        Rule(use=WEB, target_family="ipv6"),
        Rule(use="pool", target_family="ipv4"),
        Rule(use="pool"),
    )
    snapshot = build(*rules, pools=members("web", "socks"))
    families = [[one.target_family for one in rule.resolution.members] for rule in snapshot.rules]
    assert families == [["ipv6"], ["ipv4", "ipv4"], [None, None]]


def test_what_did_not_change_is_taken_over_and_what_did_is_made_anew() -> None:
    rules = Rule(use="web"), Rule(use="socks"), Rule(use="web", target_family="ipv4")
    before = build(*rules)
    edited = WEB.model_copy(update={"family": "ipv4"})
    policy = Policy(proxies=(edited, SOCKS, OFF), rules=rules)
    after = build_snapshot(policy, compile_word, previous=before)
    web, socks, pinned = (rule.resolution.members[0] for rule in after.rules)
    assert (web, pinned) == (Egress(edited, "ipv4"), Egress(edited, "ipv4", "ipv4"))
    assert after.rules[1].resolution is before.rules[1].resolution
    assert socks.key in after.egress_keys
    assert before.rules[0].resolution.members[0].key not in after.egress_keys
    off = build_snapshot(policy, compile_word, previous=before, socks5_enabled=False)
    assert off.rules[1].resolution.refusal


def test_snapshot_made_of_another_is_what_it_is_by_itself() -> None:
    random, previous = Random(5), None
    names = ["a", "b", "c", "d"]
    proxies = [Proxy(name=name, host="a.example", port=1) for name in names]
    pools = [Pool(name=f"pool-{n}", members=("a", names[n])) for n in range(1, 3)]
    uses = [*names, "pool-1", "pool-2", "direct", "refuse", proxies[0]]
    rules = [Rule(use=use, hosts=(f"h{n}.example",)) for n, use in enumerate(uses * 2)]
    for turn in range(300):
        for changed in (proxies, pools, rules):
            if random.random() < 0.4:
                at: Any = random.randrange(len(changed))
                update: Any = {"port": turn} if changed is proxies else {"sticky_minutes": turn + 1}
                if changed is proxies and random.random() < 0.3:
                    update = {"status": random.choice(["active", "inactive"])}
                if changed is rules:
                    update = {"target_family": random.choice(["ipv4", None])}
                changed[at] = changed[at].model_copy(update=update)
        random.shuffle(rules) if turn % 5 == 0 else None
        policy = Policy.model_construct(
            proxies=tuple(one for one in proxies if random.random() < 0.9),
            pools=tuple(one for one in pools if random.random() < 0.9),
            rules=tuple(rules[: random.choice([9, 18, 18])]),
            default=random.choice(["direct", "refuse"]),
        )
        options: Any = {
            "unusable": {"b": f"reason {turn // 9}"},
            "socks5_enabled": random.random() < 0.9,
        }
        alone = build_snapshot(policy, compile_word, **options)
        previous = build_snapshot(policy, compile_word, previous=previous, **options)
        for name in ("proxies", "pools", "rules", "egress_keys", "problems"):
            assert getattr(previous, name) == getattr(alone, name), name
        for n in range(len(rules)):
            target = Target(f"h{n}.example", 443)
            assert list(previous.index.candidates(target)) == list(alone.index.candidates(target))


def test_rules_that_share_a_pool_look_into_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Egress] = []
    key, digest = Egress.__dict__["key"].func, Egress.__hash__

    def count_key(egress: Egress) -> str:
        looked_at.append(egress)
        return str(key(egress))

    def count_hash(egress: Egress) -> int:
        looked_at.append(egress)
        return digest(egress)

    monkeypatch.setattr(Egress, "key", property(count_key))
    monkeypatch.setattr(Egress, "__hash__", count_hash)
    proxies = tuple(Proxy(name=f"p{n}", host="a.example", port=1) for n in range(30))
    pool = Pool(name="pool", members=tuple(proxy.name for proxy in proxies))
    rules = tuple(Rule(use="pool", hosts=(f"h{n}.example",)) for n in range(40))
    policy = Policy(proxies=proxies, pools=(pool,), rules=rules)
    snapshot = build_snapshot(policy, compile_word)
    assert len(snapshot.egress_keys) == 31
    assert len(looked_at) < 120  # rules times members are 1200


def test_name_that_cannot_be_used_refuses_with_its_reason() -> None:
    snapshot = build(Rule(use="broken"), Rule(use="gone"), unusable={"broken": "its family is 'x'"})
    found = [rule.resolution.refusal for rule in snapshot.rules]
    assert all(found)
    assert [(one.reason, one.proxy, one.detail) for one in found if one] == [
        (
            Reason.DISABLED,
            "broken",
            "broken cannot be used: its family is 'x'; refusing to egress (fail-closed)",
        ),
        (
            Reason.DELETED,
            "gone",
            "There is no proxy or pool gone; refusing to egress (fail-closed)",
        ),
    ]


def test_pool_offers_its_usable_members_in_order() -> None:
    snapshot = build(Rule(use="pool"), pools=members("off", "socks", "web", "gone"))
    resolution = snapshot.rules[0].resolution
    assert [member.name for member in resolution.members] == ["socks", "web"]
    assert resolution.picked_from is snapshot.pools["pool"]
    assert not snapshot.problems


def test_inactive_proxy_refuses() -> None:
    snapshot = build(Rule(use="off", name="r"))
    found = refusal(snapshot)
    assert (found.reason, found.proxy, found.family, found.host) == (
        Reason.DISABLED,
        "off",
        "ipv4",
        "off.example",
    )
    assert snapshot.problems == (f"rule r: {found.detail}",)


def test_inactive_inline_proxy_refuses() -> None:
    assert refusal(build(Rule(use=OFF))).reason is Reason.DISABLED


def test_socks5_refuses_while_it_is_switched_off() -> None:
    assert refusal(build(Rule(use="socks"), socks5_enabled=False)).reason is Reason.SOCKS5_DISABLED
    assert build(Rule(use="socks")).rules[0].resolution.members


def test_name_of_a_deleted_proxy_refuses() -> None:
    assert refusal(build(Rule(use="gone"))).reason is Reason.DELETED


@pytest.mark.parametrize("names", [(), ("off",), ("off", "gone", "socks")])
def test_pool_without_usable_member_refuses_and_says_why(names: tuple[str, ...]) -> None:
    found = refusal(build(Rule(use="pool"), pools=members(*names), socks5_enabled=False))
    assert found.reason is Reason.POOL_EMPTY
    assert all(name in found.detail for name in names)


def test_weights_are_those_of_the_members_that_are_usable() -> None:
    weighed = [{"name": "off", "weight": 2}, {"name": "socks", "weight": 3}, "web", "gone"]
    pool = Pool.model_validate({"name": "pool", "members": weighed})
    rules = Rule(use="pool"), Rule(use="pool", target_family="ipv4")
    for rule in build(*rules, pools=(pool,)).rules:
        members = rule.resolution.members
        assert [one.name for one in members] == ["socks", "web"]
        assert members.weights == (3, 1)


def test_refuse_is_a_refusal_and_no_problem() -> None:
    snapshot = build(Rule(use="refuse"))
    assert refusal(snapshot).reason is Reason.RULE
    assert not snapshot.problems


def test_default_of_the_policy_wins_over_the_option() -> None:
    assert build().default == "direct"
    assert build(default="refuse").default == "refuse"
    stated = Policy(default="direct")
    assert build_snapshot(stated, compile_word, default="refuse").default == "direct"


def test_egress_keys_are_of_what_can_be_chosen() -> None:
    rules = Rule(use="off"), Rule(use="pool"), Rule(use="direct", family="ipv6")
    snapshot = build(*rules, pools=members("socks", "off"), default="refuse")
    assert snapshot.egress_keys == {Egress(SOCKS).key, Egress(None, "ipv6").key}
    assert build(default="direct").egress_keys == {Egress(None).key}


def test_needs_request_tells_whether_some_filter_does() -> None:
    assert not build(Rule(use="web", filter="yes")).needs_request
    assert build(Rule(use="web", filter="yes"), Rule(use="web", filter="later")).needs_request


def test_filter_that_does_not_compile_names_the_rule() -> None:
    with pytest.raises(InvalidEntry, match="no such word") as caught:
        build(Rule(use="web"), Rule(use="web", filter="maybe"))
    assert caught.value.field == "rules[1].filter"


def test_rules_are_labelled_by_name_or_number() -> None:
    rules = build(Rule(use="web"), Rule(use="web", name="mine", ports=(1,), filter="no")).rules
    assert [rule.label for rule in rules] == ["#1", "mine"]
    assert [rule.title for rule in rules] == ["rule #1 (no condition)", "rule mine (ports, filter)"]


def test_counts_and_names_are_of_what_was_declared() -> None:
    snapshot = build(Rule(use=WEB), pools=members())
    assert snapshot.counts == {"proxies": 3, "pools": 1, "rules": 1}
    assert list(snapshot.proxies) == ["web", "socks", "off"]


def test_snapshot_is_frozen() -> None:
    snapshot = build()
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.default = "refuse"  # type: ignore[misc]
    with pytest.raises(TypeError):
        snapshot.proxies["x"] = WEB  # type: ignore[index]
