"""DNS answers, kept until their TTL ends. No I/O; the clock is a parameter."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from ..model.family import FamilyNumber
from ..policy.preflight import DnsAnswer

Question = tuple[str, FamilyNumber]


class AnswerCache:
    """Holds at most ``limit`` answers and drops the least recently used. ``clock`` is in
    seconds."""

    def __init__(self, clock: Callable[[], float], limit: int = 4096) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[Question, tuple[float, DnsAnswer]] = OrderedDict()

    def get(self, question: Question) -> DnsAnswer | None:
        """The answer with its remaining TTL."""
        if question not in self._entries:
            return None
        expires, answer = self._entries[question]
        if (ttl := expires - self._clock()) <= 0:
            return None
        self._entries.move_to_end(question)
        return replace(answer, ttl=ttl, from_cache=True)

    def put(self, question: Question, answer: DnsAnswer) -> None:
        self._entries[question] = self._clock() + answer.ttl, answer
        self._entries.move_to_end(question)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()
