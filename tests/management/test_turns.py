"""Whose turn it is to be greeted: dead pools are left in peace, and nobody waits for ever."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from egress_policy.management.schedule import INTERVAL, Pace
from egress_policy.management.turns import ROUND, Turns
from egress_policy.model.decision import Egress
from egress_policy.model.pool import Pool
from egress_policy.model.proxy import Proxy


def egress(name: str) -> Egress:
    return Egress(Proxy(name=name, host="192.0.2.1"))


def pool(name: str, *members: str) -> Pool:
    return Pool.model_validate({"name": name, "members": members})


def turns(*pools: Pool) -> Turns:
    made = Turns(Pace(INTERVAL))
    made.plan(pools)
    return made


def always(_egress: Egress) -> bool:
    return True


def greeted(subject: Turns, names: list[str], seconds: float) -> list[tuple[float, str]]:
    """All are due all the time. Returns who was greeted when."""
    found, now, due = list[tuple[float, str]](), 0.0, [egress(name) for name in names]
    while now < seconds:
        subject.wait(due)
        polled = now + 1.0
        while now < polled:
            while one := subject.take(now, always):
                found.append((now, one.name))
                due.append(due.pop(due.index(one)))
            coming = subject.next(now)
            now = min(polled, polled if coming is None else coming)
    return found


def test_a_dead_pool_has_one_greeting_a_second() -> None:
    found = greeted(turns(pool("homes", "a", "b", "c")), ["a", "b", "c"], 30)
    assert len(found) == 30
    assert Counter(name for _, name in found) == {"a": 10, "b": 10, "c": 10}


def test_ten_thousand_dead_members_have_their_turn_within_ten_minutes() -> None:
    names = [f"p{number}" for number in range(10_000)]
    subject = turns(pool("homes", *names))
    subject.wait([egress(name) for name in names])
    now, found = 0.0, 0
    while now <= ROUND:
        while subject.take(now, always):
            found += 1
        coming = subject.next(now)
        now = ROUND + 1 if coming is None else coming
    assert 9_990 <= found <= 10_000  # which is 16.7 a second


def test_a_dead_pool_holds_up_no_other_and_no_proxy_of_its_own() -> None:
    subject = turns(pool("a", "a1"), pool("b", "b1"))
    found = greeted(subject, ["a1", "b1", "alone"], 10)
    counted = Counter(name for _, name in found)
    assert counted["a1"] == counted["b1"] == 10
    assert counted["alone"] >= 10


def test_a_member_of_two_pools_takes_the_turn_of_both() -> None:
    subject = turns(pool("a", "both", "a1"), pool("b", "both", "b1"))
    subject.wait([egress("both"), egress("a1"), egress("b1")])
    first = subject.take(0.0, always)
    assert first
    assert first.name == "both"
    assert subject.take(0.5, always) is None
    assert {one.name for now in (1.0, 1.5) if (one := subject.take(now, always))} == {"a1", "b1"}


def test_who_may_not_be_greeted_takes_no_turn() -> None:
    subject = turns(pool("homes", "a", "b"))
    subject.wait([egress("a"), egress("b")])
    found = subject.take(0.0, lambda one: one.name == "b")
    assert found
    assert found.name == "b"
    assert subject.next(0.0) is None


def test_an_edit_gives_no_further_turn() -> None:
    pools = [pool("homes", "a", "b")]
    subject = turns(*pools)
    subject.wait([egress("a"), egress("b")])
    assert subject.take(0.0, always)
    subject.plan([pool("homes", "a", "b", "c")])
    assert subject.take(0.5, always) is None
    assert subject.next(0.5) == 1.0


@given(st.lists(st.lists(st.integers(0, 9), max_size=8, unique=True), max_size=5), st.data())
def test_no_pool_has_two_greetings_within_its_interval(made: list[list[int]], data: Any) -> None:
    pools = [pool(f"pool{n}", *(f"p{m}" for m in members)) for n, members in enumerate(made)]
    subject, last, at = turns(*pools), dict[str, float](), -1.0
    now = 0.0
    for _ in range(30):
        now += data.draw(st.floats(0, 1.5))
        subject.wait([egress(f"p{number}") for number in range(10)])
        while one := subject.take(now, always):
            assert now - at > INTERVAL - 1e-6
            at = now
            for name in subject.pools_of(one.name):
                assert now - last.get(name, -9.0) > 1.0 - 1e-6
                last[name] = now
