"""The strategies that keep members in an order: ``first`` and ``round-robin``."""

from collections.abc import Collection, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from types import MappingProxyType
from typing import Final, override

from .roster import Roster, Strategy

_ROUND: Final = 1 << 30
"""How far a member of weight 1 goes back in the line when it is picked."""


class First(Strategy):
    """The first available member in the listed order."""

    def __init__(self, roster: Roster) -> None:
        super().__init__(roster)
        self._size = len(roster.names)
        self._line = [*range(self._size)]
        """A heap of entries, each ``turn * size + number``: a number alone is compared in half the
        time of a pair. The turn is always 0 here."""
        self._parked: dict[int, int] = {}
        """The entries of members that are away, by number."""

    @override
    def choose(self, skip: Collection[int], key: str, in_doubt: Collection[int] = ()) -> int | None:
        roster, line, size = self._roster, self._line, self._size
        tried, found = [], None
        while line:
            number = line[0] % size
            if number in skip:
                tried.append(heappop(line))
            elif roster.available(roster.members[number]):
                self._picked(number)
                found = number
                break
            else:
                roster.part_with(number)
                self._parked[number] = heappop(line)
        for entry in tried:
            heappush(line, entry)
        return found

    @override
    def take_back(self, number: int) -> None:
        heappush(self._line, self._parked.pop(number))

    def _picked(self, number: int) -> None:
        """The member at the head of the line was picked."""


class RoundRobin(First):
    """Each in its turn, in proportion to the weights: stride scheduling.

    A member's turn is a moment on a virtual time. Each pick moves it on by a stride, which is
    shorter the more the member weighs. One that was away or is new goes on at the present moment:
    it makes up for nothing. (Waldspurger and Weihl, "Stride Scheduling", 1995.)
    """

    def __init__(
        self, roster: Roster, now: int = 0, turns: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        """``now`` is the virtual time, ``turns`` has those of known members by name."""
        super().__init__(roster)
        strides = [_ROUND // weight for weight in roster.weights]
        self._steps = [stride * self._size for stride in strides]
        self._now = now
        self._line = []
        for number, (name, stride) in enumerate(zip(roster.names, strides, strict=True)):
            # In the middle of the stride, so that heavy members are not all picked first.
            turn = min(turns.get(name, now + stride // 2), now + stride)
            self._line.append(turn * self._size + number)
        heapify(self._line)

    @override
    def take_back(self, number: int) -> None:
        heappush(self._line, self._resumed(self._parked.pop(number)) * self._size + number)

    @override
    def _picked(self, number: int) -> None:
        entry = self._line[0]
        heapreplace(self._line, entry + self._steps[number])
        self._now = max(self._now, entry // self._size)

    def _resumed(self, entry: int) -> int:
        """The turn at which a member goes on that is back with this entry."""
        return max(entry // self._size, self._now + 1)

    def remembered(self) -> tuple[int, Mapping[str, int]]:
        """The virtual time and the turns, for the same pool after an edit."""
        names, size = self._roster.names, self._size
        turns = {names[entry % size]: entry // size for entry in self._line}
        away = {names[number]: self._resumed(entry) for number, entry in self._parked.items()}
        return self._now, turns | away
