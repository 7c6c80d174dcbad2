"""Places take turns, and no more than so many are at one place."""

from collections import Counter
from collections.abc import Hashable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from egress_policy.management.hop_queue import HopQueue


def test_places_take_turns_and_a_full_one_keeps_none_waiting() -> None:
    queue = HopQueue[str](2)
    for place, item in (("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")):
        queue.put(place, item)
    assert [queue.take() for _ in range(4)] == [("a", "a1"), ("b", "b1"), ("a", "a2"), None]
    queue.give_back("b")
    assert queue.take() is None
    queue.give_back("a")
    assert queue.take() == ("a", "a3")


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 3), st.randoms())
def test_everything_is_taken_once_and_no_place_is_overfull(
    places: list[int], at_a_place: int, random: Random
) -> None:
    queue, there = HopQueue[int](at_a_place), Counter[Hashable]()
    taken: list[int] = []
    for number, place_of in enumerate(places):
        queue.put(place_of, number)
    while len(taken) < len(places):
        if found := queue.take():
            place, item = found
            there[place] += 1
            assert there[place] <= at_a_place
            assert places[item] == place
            taken.append(item)
        if not found or random.random() < 0.5:
            place = random.choice([one for one, count in there.items() if count])
            there[place] -= 1
            queue.give_back(place)
    assert sorted(taken) == list(range(len(places)))
    assert queue.take() is None
