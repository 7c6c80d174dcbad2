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
    for enters, number in moves:
        one, out = routes[number], routes[number].egress
        others = {n for n in dials if dials[n] and routes[n].egress is out}
        limit = out.proxy.max_connections if out.proxy else 0
        if enters:
            room = number in others or not limit or len(others) < limit
            assert occupancy.enter(one) is room
            dials[number] += room
        elif dials[number]:
            was_full = bool(limit) and len(others) >= limit
            dials[number] -= 1
            assert occupancy.leave(one) is (was_full and not dials[number])
        for egress in EGRESSES:
            living = [n for n in dials if dials[n] and routes[n].egress is egress]
            assert occupancy.active(egress) == len(living)
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


def test_what_never_entered_may_leave() -> None:
    """A script that is loaded again has another table, and connections of before end."""
    occupancy = Occupancy()
    assert not occupancy.leave(route(EGRESSES[1]))
    assert occupancy.active(EGRESSES[1]) == 0
