"""A proxy is available if its circuit, its limit and its exit allow it; what returns is missed by
nobody."""

import random
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.model.decision import Choice, Egress, Pin, Refusal, Route
from egress_policy.model.proxy import Proxy
from egress_policy.policy.health import Health
from egress_policy.policy.standing import Standing, full


def egress(limit: int = 1) -> Egress:
    return Egress(Proxy(name="home-1", host="192.0.2.1", max_connections=limit))


@pytest.mark.parametrize(("limit", "words"), [(1, "1 connection"), (2, "2 connections")])
def test_a_full_proxy_says_how_many_it_may_have(limit: int, words: str) -> None:
    refusal = full(egress(limit))
    assert refusal.detail.startswith(f"Proxy home-1 has {words}, as many as its max_connections ")
    assert (refusal.reason, refusal.fails_over) == (Reason.LIMIT_REACHED, True)


def test_a_proxy_that_is_full_or_has_another_exit_is_not_available() -> None:
    standing, one = Standing(Health(lambda: 0.0, random.Random(1))), egress()
    assert standing.is_available(one)
    assert standing.refusal(one) is None
    route = Route(Choice(one), Pin(("192.0.2.1",), 4), ("origin.test", 443))
    assert standing.enter(route)
    other = Refusal(Reason.EXIT_MISMATCH, "another exit")
    for is_full, strange in ((True, None), (True, other), (False, other), (False, None)):
        standing.exit_refusal = lambda _, strange=strange: strange  # type: ignore[misc]
        if not is_full and standing.active(one):
            standing.leave(route)
        assert standing.is_available(one) is not (is_full or strange is not None)
        assert standing.refusal(one) == (full(one) if is_full else strange)


class Waking:
    """Stands for a ``Health`` whose circuits wake when it is asked."""

    def __init__(self) -> None:
        self.due: list[str] = []
        self.on_return: Callable[[str], None]

    def wake(self) -> None:
        for key in self.due:
            self.on_return(key)
        self.due.clear()


KEYS = st.sampled_from("abc")
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["circuit", "room"]), KEYS),
        st.tuples(st.just("ask"), st.sampled_from("xy")),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 5))
def test_every_asker_hears_of_every_return(moves: list[tuple[str, str]], kept: int) -> None:
    health = Waking()
    standing = Standing(cast(Health, health), kept)
    since, missed = {"x": 0, "y": 0}, {"x": list[str](), "y": list[str]()}
    for what, which in moves:
        if what == "ask":
            position, keys = standing.returned(since[which])
            expected = missed[which]
            assert (keys is None) is (len(expected) > kept)
            assert keys is None or sorted(keys) == sorted(expected)
            assert (position != since[which]) is bool(expected)
            since[which], missed[which] = position, []
            continue
        if what == "room":
            standing.came_back(which)
        else:
            health.due.append(which)
        for one in missed.values():
            one.append(which)
