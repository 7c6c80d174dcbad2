import pytest

from egress_policy.errors import EgressError, Reason
from egress_policy.model.decision import NO_MEMBERS, Egress, Members
from egress_policy.model.proxy import Proxy
from egress_policy.model.rule import AVAILABLE
from egress_policy.policy.selection import PoolPicker

A, B, C = (Egress(Proxy(name=name, host=f"{name}.example")) for name in "abc")


def picks(rotation: PoolPicker, pool: str, *members: Egress, times: int = 1) -> str:
    return "".join(rotation.pick(pool, Members(members), "round-robin").name for _ in range(times))


def test_first_is_always_the_first() -> None:
    rotation = PoolPicker()
    assert [rotation.pick("p", Members((B, A)), "first").name for _ in range(3)] == ["b", "b", "b"]


def test_round_robin_takes_each_in_its_turn() -> None:
    assert picks(PoolPicker(), "p", A, B, C, times=7) == "abcabca"


def test_pools_turn_independently() -> None:
    rotation = PoolPicker()
    assert (
        picks(rotation, "p", A, B) + picks(rotation, "q", A, B) + picks(rotation, "p", A, B)
        == "aab"
    )


def test_round_robin_goes_on_when_members_change() -> None:
    rotation = PoolPicker()
    assert picks(rotation, "p", A, B, C, times=2) == "ab"
    assert picks(rotation, "p", A, B, times=3) == "aba"


def test_current_egress_is_kept_and_takes_no_turn() -> None:
    rotation = PoolPicker()
    assert picks(rotation, "p", A, B, C) == "a"
    assert rotation.pick("p", Members((A, B, C)), "round-robin", current=C.key) is C
    assert picks(rotation, "p", A, B, C) == "b"


def test_current_egress_that_is_no_member_is_not_kept() -> None:
    edited = Egress(Proxy(name="a", host="a.example", port=9))
    assert PoolPicker().pick("p", Members((A, B)), "first", current=edited.key) is A


def test_a_pick_looks_at_no_more_members_of_a_large_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Egress] = []
    key = Egress.__dict__["key"].func

    def count(egress: Egress) -> str:
        looked_at.append(egress)
        return str(key(egress))

    members = Members(Egress(Proxy(name=f"p{n}", host="a.example")) for n in range(100))
    current, picker = members[-1].key, PoolPicker()
    assert picker.pick("p", members, "round-robin", current) is members[-1]
    monkeypatch.setattr(Egress, "key", property(count))
    assert picker.pick("p", members, "round-robin", current) is members[-1]
    assert picker.pick("p", members, "round-robin", "another") is members[0]
    assert not looked_at


def test_every_available_strategy_picks() -> None:
    for strategy in AVAILABLE:
        assert PoolPicker().pick("p", Members((A,)), strategy) is A


@pytest.mark.parametrize(
    ("members", "strategy", "reason"),
    [(NO_MEMBERS, "first", Reason.POOL_EMPTY), (Members((A,)), "sticky", Reason.DISABLED)],
)
def test_what_cannot_be_picked_is_a_refusal(
    members: Members, strategy: str, reason: Reason
) -> None:
    with pytest.raises(EgressError) as caught:
        PoolPicker().pick("p", members, strategy)
    assert caught.value.reason == reason
