"""The strategies ``random``, ``least-connections`` and ``latency``."""

from collections import Counter
from random import Random

import pytest

from egress_policy.model.decision import Egress, Members
from egress_policy.policy.selection import PoolPicker
from tests.helpers.pools import Fleet, asked_by, egress, members_of, pool_of
from tests.helpers.statistics import fits

by_chance = pytest.mark.parametrize("strategy", ["random", "least-connections", "latency"])
TARGET = asked_by()


def count(
    members: Members, strategy: str, times: int, fleet: Fleet | None = None, tried: str = ""
) -> Counter[str]:
    picker = PoolPicker(fleet or Fleet(), random=Random(5))
    pool, keys = pool_of(members, strategy), {egress(name).key for name in tried}
    picks = (picker.pick(pool, members, TARGET, None, keys) for _ in range(times))
    return Counter(one.name if isinstance(one, Egress) else "" for one in picks)


def test_random_is_fair() -> None:
    assert fits(count(members_of("abcdefghij"), "random", 100_000), dict.fromkeys("abcdefghij", 1))


def test_random_is_by_weight_and_within_a_percent() -> None:
    weights = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 40}
    counts = count(members_of(weights, weights), "random", 100_000)
    assert fits(counts, weights)
    assert all(abs(counts[name] / 100_000 - weight / 50) < 0.01 for name, weight in weights.items())


@pytest.mark.parametrize("weights", [{}, {"a": 500, "b": 400, "z": 3}])
def test_random_is_fair_among_those_that_are_left(weights: dict[str, int]) -> None:
    names, fleet = "abcdefz", Fleet()
    fleet.put_off("a", "b")
    counts = count(members_of(names, weights), "random", 20_000, fleet, tried="c")
    assert fits(counts, {name: weights.get(name, 1) for name in "defz"})


def test_random_is_fair_after_most_members_were_away_and_came_back() -> None:
    names, fleet = "abcdefgh", Fleet()
    members, picker = members_of(names), PoolPicker(fleet, random=Random(3))
    pool, counts = pool_of(members, "random"), Counter[str]()
    for _ in range(3):
        fleet.put_off(*"abcdefg")
        for _ in range(100):
            assert picker.pick(pool, members, TARGET) is members[-1]
        fleet.bring_back(*"gfdebca")
    for _ in range(20_000):
        picked = picker.pick(pool, members, TARGET)
        assert isinstance(picked, Egress)
        counts[picked.name] += 1
    assert fits(counts, dict.fromkeys(names, 1))


@by_chance
def test_the_last_one_is_found_however_little_it_weighs(strategy: str) -> None:
    weights = {"a": 1000, "b": 1000, "c": 1}
    members = members_of(weights, weights)
    assert count(members, strategy, 50, tried="ab") == {"c": 50}
    fleet = Fleet()
    fleet.put_off("a")
    assert count(members, strategy, 50, fleet, tried="b") == {"c": 50}


def test_least_connections_takes_the_less_loaded_of_two_by_weight() -> None:
    fleet = Fleet()
    fleet.connections = {"a": 3, "b": 1}
    assert count(members_of("ab"), "least-connections", 50, fleet) == {"b": 50}
    heavy = members_of("ab", {"a": 3})  # 4 / 3 against 2 / 1
    assert count(heavy, "least-connections", 50, fleet) == {"a": 50}


def test_least_connections_levels_out_a_large_pool() -> None:
    names = [f"p{number}" for number in range(50)]
    fleet, members = Fleet(), members_of(names)
    picker, pool = PoolPicker(fleet, random=Random(2)), pool_of(members, "least-connections")
    for _ in range(5000):
        picked = picker.pick(pool, members, TARGET)
        assert isinstance(picked, Egress)
        fleet.connections[picked.name] = fleet.connections.get(picked.name, 0) + 1
    assert max(fleet.connections.values()) - min(fleet.connections.values()) <= 8


def test_latency_takes_the_one_that_costs_less_by_load() -> None:
    fleet = Fleet()
    fleet.costs = {"a": 0.1, "b": 0.3}
    assert count(members_of("ab"), "latency", 50, fleet) == {"a": 50}
    fleet.connections = {"a": 5}
    assert count(members_of("ab"), "latency", 50, fleet) == {"b": 50}
    assert count(members_of("ab", {"a": 3}), "latency", 50, fleet) == {"a": 50}


def test_a_cost_that_is_not_known_is_taken_for_the_median() -> None:
    fleet = Fleet()
    fleet.costs = {"a": 0.1, "b": 0.2, "c": 0.9}
    counts = count(members_of("abcn"), "latency", 12_000, fleet)
    # Six pairs are drawn equally often: a beats all, n beats c, ties with b and so wins half.
    assert counts["c"] < 20
    assert counts["a"] / 12_000 == pytest.approx(0.5, abs=0.02)
    assert counts["n"] + counts["b"] == 12_000 - counts["a"] - counts["c"]
    assert 1500 < counts["n"] < 4500


def test_latency_without_any_cost_goes_by_connections() -> None:
    fleet = Fleet()
    fleet.connections = {"a": 1}
    assert count(members_of("ab"), "latency", 50, fleet) == {"b": 50}
