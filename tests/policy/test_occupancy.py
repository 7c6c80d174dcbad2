"""Connections count from their dial to their end, once a route, and never beyond a limit."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.proxy import Proxy
from egress_policy.policy.occupancy import Occupancy


def egress(name: str, limit: int) -> Egress:
    return Egress(Proxy(name=name, host="192.0.2.1", max_connections=limit))


def route(egress: Egress) -> Route:
    return Route(Choice(egress), Pin(("192.0.2.1", "192.0.2.2"), 4), ("origin.test", 443))


LIMITS = (0, 1, 3)
EGRESSES = [egress(f"p{limit}", limit) for limit in LIMITS]
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=60)


@given(steps)
def test_the_counts_are_those_of_a_naive_list(moves: list[tuple[bool, int]]) -> None:
    occupancy, routes = Occupancy(), [route(EGRESSES[number % 3]) for number in range(12)]
    dials: Counter[int] = Counter()
    found_full: set[Egress] = set()
    for enters, number in moves:
        one, out = routes[number], routes[number].egress
        others = {n for n in dials if dials[n] and routes[n].egress is out}
        limit = out.proxy.max_connections if out.proxy else 0
        if enters:
            room = number in others or not limit or len(others) < limit
            assert occupancy.enter(one) is room
            dials[number] += room
        elif dials[number]:
            dials[number] -= 1
            has_room = out in found_full and not dials[number]
            assert occupancy.leave(one) is has_room
            found_full -= {out} if has_room else set()
        for egress in EGRESSES:
            living = [n for n in dials if dials[n] and routes[n].egress is egress]
            assert occupancy.active(egress) == len(living)
            if occupancy.is_full(egress):
                found_full.add(egress)
    for number in dials.elements():
        occupancy.leave(routes[number])
    assert not any(map(occupancy.active, EGRESSES))


def test_a_target_family_makes_no_other_proxy() -> None:
    occupancy, plain = Occupancy(), egress("p", 1)
    pinned = Egress(plain.proxy, target_family="ipv6")
    first, second = route(plain), route(pinned)
    assert occupancy.enter(first)
    assert occupancy.is_full(pinned)
    assert not occupancy.enter(second)
    assert occupancy.leave(first)
    assert occupancy.enter(second)


@given(before=st.integers(0, 3), after=st.integers(1, 3), count=st.integers(1, 3))
def test_who_finds_a_proxy_full_hears_of_room_also_after_the_limit_was_edited(
    before: int, after: int, count: int
) -> None:
    """The connections were made under the limit as it was."""
    occupancy, edited = Occupancy(), egress("p", after)
    routes = [route(egress("p", before)) for _ in range(count)]
    left = [one for one in routes if occupancy.enter(one)]
    while occupancy.is_full(edited):
        assert occupancy.leave(left.pop())
    assert len(left) < after


def test_what_never_entered_may_leave() -> None:
    """A script that is loaded again has another table, and connections of before end."""
    occupancy = Occupancy()
    assert not occupancy.leave(route(EGRESSES[1]))
    assert occupancy.active(EGRESSES[1]) == 0
