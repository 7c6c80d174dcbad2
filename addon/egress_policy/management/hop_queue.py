"""Which of many is next, where only so many may be at one place at a time. Pure."""

from collections import Counter, deque
from collections.abc import Hashable


class HopQueue[T]:
    """Places take turns, and what waits for a full place keeps nothing else waiting."""

    def __init__(self, at_a_place: int) -> None:
        self._at_a_place = at_a_place
        self._busy: Counter[Hashable] = Counter()
        self._ready: dict[Hashable, deque[T]] = {}
        self._full: dict[Hashable, deque[T]] = {}

    def put(self, place: Hashable, item: T) -> None:
        """Let an item wait for its place. Only before the first is taken."""
        self._ready.setdefault(place, deque()).append(item)

    def take(self) -> tuple[Hashable, T] | None:
        """The next item and its place, ``None`` while all places are full or nothing waits."""
        for place, waiting in self._ready.items():
            del self._ready[place]
            item = waiting.popleft()
            self._busy[place] += 1
            if waiting:
                has_room = self._busy[place] < self._at_a_place
                (self._ready if has_room else self._full)[place] = waiting
            return place, item
        return None

    def give_back(self, place: Hashable) -> None:
        """An item that was taken has left its place."""
        self._busy[place] -= 1
        if place in self._full:
            self._ready[place] = self._full.pop(place)
