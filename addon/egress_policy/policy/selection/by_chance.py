"""The strategies that draw by weight: ``random``, ``least-connections`` and ``latency``."""

from bisect import bisect_right
from collections.abc import Collection
from itertools import accumulate
from random import Random
from typing import Final, override

from .roster import Roster, Strategy

_DRAWS: Final = 32
"""Draws that may fail before all that is left is looked through. Members that are away have at most
a quarter of the weight, so that this is rare: where the members tried already have most of it."""
_SAMPLE: Final = 101
"""Costs of members drawn lately, whose median stands for a cost that is not known."""


class ByWeight(Strategy):
    """One drawn by weight."""

    def __init__(self, roster: Roster, random: Random) -> None:
        super().__init__(roster)
        self._random = random
        self._weights = roster.weights
        self._is_even = len({*self._weights}) == 1
        self._fill(range(len(self._weights)))

    def _fill(self, numbers: Collection[int]) -> None:
        """Draw among these members."""
        self._entries = list(numbers)
        self._sums = list(accumulate(float(self._weights[number]) for number in numbers))
        self._listed = set(numbers)
        self._total = self._sums[-1] if self._sums else 0.0
        self._missing = 0
        """How much of the total belongs to members that are away."""

    @override
    def choose(self, skip: Collection[int], key: str, in_doubt: Collection[int] = ()) -> int | None:
        roster = self._roster
        while (number := self._proposed(skip)) is not None:
            if roster.available(roster.members[number]):
                return number
            self._part_with(number)
        return None

    def _proposed(self, skip: Collection[int]) -> int | None:
        """Who is picked if available: a member that is neither known to be away nor in ``skip``."""
        return self._drawn(skip)

    def _drawn(self, skip: Collection[int]) -> int | None:
        entries, sums, total = self._entries, self._sums, self._total
        away, random, is_even = self._roster.away, self._random.random, self._is_even
        if entries:
            for _ in range(_DRAWS):
                if is_even:  # the same in half of the time
                    number = entries[int(random() * len(entries))]
                else:
                    number = entries[bisect_right(sums, random() * total)]
                if number not in away and number not in skip:
                    return number
        left = [one for one in entries if one not in away and one not in skip]
        weights = [self._weights[number] for number in left]
        return self._random.choices(left, weights)[0] if left else None

    @override
    def take_back(self, number: int) -> None:
        weight = self._weights[number]
        if number in self._listed:
            self._missing -= weight
            return
        self._total += weight
        self._entries.append(number)
        self._sums.append(self._total)
        self._listed.add(number)

    def _part_with(self, number: int) -> None:
        away = self._roster.away
        self._roster.part_with(number)
        self._missing += self._weights[number]
        if self._missing * 4 > self._total:
            self._fill([one for one in self._entries if one not in away])


class LeastConnections(ByWeight):
    """Two drawn by weight, and of these the one with the smaller load: the power of two choices
    (Mitzenmacher, 2001)."""

    def __init__(self, roster: Roster, random: Random) -> None:
        super().__init__(roster, random)
        self._active = roster.condition.active

    @override
    def _proposed(self, skip: Collection[int]) -> int | None:
        one = self._drawn(skip)
        if one is None or len(self._entries) == 1:
            return one
        other = self._drawn((*skip, one))
        return one if other is None else self._lighter(one, other)

    def _lighter(self, one: int, other: int) -> int:
        """The one with fewer connections by weight, the one to come included."""
        active, members, weights = self._active, self._roster.members, self._weights
        load = (active(members[one]) + 1) / weights[one]
        return one if load <= (active(members[other]) + 1) / weights[other] else other


class Latency(LeastConnections):
    """Two drawn by weight, and of these the one with less cost by load."""

    def __init__(self, roster: Roster, random: Random) -> None:
        super().__init__(roster, random)
        self._cost = roster.condition.cost
        self._median = 1.0
        self._costs: list[float] = []
        self._enough = 1

    @override
    def _lighter(self, one: int, other: int) -> int:
        active, members, weights = self._active, self._roster.members, self._weights
        this, that = members[one], members[other]
        costs = self._known(self._cost(this)), self._known(self._cost(that))
        load = costs[0] * (active(this) + 1) / weights[one]
        return one if load <= costs[1] * (active(that) + 1) / weights[other] else other

    def _known(self, cost: float | None) -> float:
        """The cost, or the median of the pool. What two that are drawn by weight cost is a fair
        sample of it."""
        if cost is None:
            return self._median
        costs = self._costs
        costs.append(cost)
        if len(costs) >= self._enough:
            self._median = sorted(costs)[len(costs) // 2]  # their number is odd
            costs.clear()
            self._enough = min(2 * self._enough + 1, _SAMPLE)
        return cost
