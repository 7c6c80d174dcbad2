"""What a pool would do."""

from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management.pools import PoolView
from egress_policy.management.proxies import ProxyView
from egress_policy.management.simulate import Simulation, simulate
from egress_policy.model.pool import STRATEGIES

MEMBERS = ["a", {"name": "b", "weight": 3}, "c"]


def view(members: list[Any] = MEMBERS, **fields: Any) -> PoolView:
    known = {"id": "file:p", "source": "file", "name": "p", "members": members}
    by_default = {"strategy": "round-robin", "sticky_by": "client", "sticky_minutes": 30}
    return PoolView.model_validate({**known, **by_default, **fields})


def proxies(names: str = "abc", **fields: Any) -> list[ProxyView]:
    known: dict[str, Any] = {
        "source": "file",
        "type": "http",
        "host": "h.example",
        "port": 1,
        "family": "auto",
    }
    known["password"] = {"set": False}
    return [
        ProxyView.model_validate({"id": name, "name": name, **known, **fields}) for name in names
    ]


def by_name(found: Simulation, part: str) -> dict[str, Any]:
    return {one.name: getattr(one, part) for one in found.members}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_pool_gives_the_same_answer_and_deals_out_every_flow(strategy: str) -> None:
    found = simulate(view(strategy=strategy), proxies(), 600, ["b"])
    assert found == simulate(view(strategy=strategy), proxies(), 600, ["b"])
    assert sum(by_name(found, "picked").values()) == 600
    after = by_name(found, "picked_after")
    assert (after["b"], sum(after.values())) == (0, 600)
    assert by_name(found, "expected") == {"a": 0.2, "b": 0.6, "c": 0.2}
    assert (found.refused, found.refused_after) == (0, 0)


def test_shares_are_those_of_the_weights() -> None:
    found = simulate(view(), proxies(), 500)
    assert by_name(found, "share") == by_name(found, "expected")
    assert by_name(found, "picked_after") == dict.fromkeys("abc")
    assert found.refused_after is None
    balanced = simulate(view(strategy="least-connections"), proxies(), 5000)
    for one in balanced.members:
        assert one.share == pytest.approx(one.expected, abs=0.05)


def test_only_the_keys_of_a_killed_member_move() -> None:
    found = simulate(view(strategy="sticky"), proxies(), 2000, ["b"])
    lost = by_name(found, "picked")["b"]
    assert by_name(found, "moved_away") == {"a": 0, "b": lost, "c": 0}
    assert sum(by_name(found, "moved_here").values()) == lost
    before, after, came = (
        by_name(found, part) for part in ("picked", "picked_after", "moved_here")
    )
    assert all(after[name] == before[name] + came[name] for name in "ac")


def test_keys_do_not_move_in_a_pool_that_is_not_sticky() -> None:
    assert by_name(simulate(view(), proxies(), 9, ["a"]), "moved_away") == dict.fromkeys("abc")


def test_a_pool_that_is_sticky_by_a_header_has_made_up_keys() -> None:
    found = simulate(view(strategy="sticky", sticky_by="header:x-account"), proxies(), 100)
    assert found.refused == 0


def test_members_that_are_inactive_deleted_or_faulty_are_named_and_never_picked() -> None:
    there = [*proxies("b", status="inactive"), *proxies("c", problem="its family is 'x'")]
    found = simulate(view(["a", "b", "c", "d"]), [*proxies("a"), *there], 10)
    assert found.unusable == ("b", "c", "d")
    assert by_name(found, "picked") == {"a": 10}


def test_flows_without_a_member_are_refused() -> None:
    found = simulate(view(), proxies(), 10, ["a", "b", "c"])
    assert (found.refused, found.refused_after) == (0, 10)
    assert simulate(view([]), [], 10).refused == 10


def test_a_stranger_cannot_be_killed() -> None:
    with pytest.raises(InvalidEntry, match="Pool p has no member 'z'") as caught:
        simulate(view(), proxies(), 10, ["a", "z"])
    assert caught.value.field == "kill"


def test_a_pool_that_cannot_be_read_is_rejected() -> None:
    with pytest.raises(InvalidEntry, match="Pool p cannot be used: its strategy is 'x'"):
        simulate(view(strategy="x", problem="its strategy is 'x'"), proxies(), 10)
