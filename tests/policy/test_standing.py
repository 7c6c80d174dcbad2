"""A proxy is available if its circuit, its limit and its exit allow it; what returns is missed by
nobody."""

import random
from collections.abc import Iterable
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


class Returning:
    """Stands for a ``Health`` of which keys return, or too many to be named."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.forgotten = 0

    def returned(self, since: int) -> tuple[int, Iterable[str] | None]:
        return len(self.all), None if since < self.forgotten else self.all[since:]


KEYS = st.sampled_from("abc")
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["circuit", "room"]), KEYS),
        st.tuples(st.just("too many"), KEYS),
        st.tuples(st.just("ask"), st.sampled_from("xy")),
    ),
    max_size=40,
)


@given(steps)
def test_every_asker_hears_of_every_return(moves: list[tuple[str, str]]) -> None:
    health = Returning()
    standing = Standing(cast(Health, health))
    since, missed = {"x": 0, "y": 0}, {"x": set[str](), "y": set[str]()}
    for what, which in moves:
        if what == "ask":
            position, keys = standing.returned(since[which])
            assert keys is None or missed[which] <= {*keys}
            assert position != since[which] or not missed[which]
            since[which], missed[which] = position, set()
            continue
        if what == "room":
            standing.came_back(which)
        else:
            health.all.append(which)
            health.forgotten = len(health.all) if what == "too many" else health.forgotten
        for one in missed.values():
            one.add(which)
