"""The members of a pool by number, and which of them are away (not available) at this moment.

A member is found to be away when a strategy asks for it, and is then left alone until the condition
says that it is back. So a pick does not depend on how many members a pool has.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Final

from ...errors import Reason
from ...model.decision import Members, Refusal
from ...sentence import Sentence
from ..condition import Condition
from ..fail_closed import fail_closed

_ASKED_AGAIN: Final = 64
"""Members at most whose time has come that one refusal asks about again."""
_EXITS: Final = frozenset({Reason.EXIT_MISMATCH, Reason.EXIT_UNVERIFIED})
_WORDS: Final = {
    Reason.CIRCUIT_OPEN: Sentence("away_circuit", "circuit open"),
    Reason.LIMIT_REACHED: Sentence("away_limit", "connection limit reached"),
    Reason.EXIT_MISMATCH: Sentence("away_exit", "exit not the expected one"),
    Reason.EXIT_UNVERIFIED: Sentence("away_unverified", "exit not verified"),
}

type _Summary = tuple[float, Reason, Sequence[str], str]
"""Until when it holds, the reason, how many members are away for what, and the sentence: it is made
once, because a pool without a member may refuse many flows."""


class Roster:
    """A member's number is its place in the listed order.

    ``members`` may be replaced by others of the same proxies, for another target family.
    """

    def __init__(self, members: Members, condition: Condition, clock: Callable[[], float]) -> None:
        self.members = members
        self.weights = members.weights
        self.names = [member.name for member in members]
        self.number_of = {name: number for number, name in enumerate(self.names)}
        self.condition = condition
        self.available = condition.is_available
        self.away: dict[int, float] = {}
        """The members that are away, each with the time at which another try may help (infinite
        if nobody knows)."""
        self._reasons: dict[int, Reason] = {}
        self._by_hop_key: dict[str, int] = {}
        self._clock = clock
        self._since = 0
        self._summary: _Summary | None = None

    def is_same(self, members: Members) -> bool:
        """Whether these are the same proxies with the same weights. An edited one is another: it
        may be available for its new limit or expected exit."""
        return (
            members.weights == self.weights
            and len(members) == len(self.members)
            and all(
                one.proxy is other.proxy and one.family == other.family
                for one, other in zip(members, self.members, strict=True)
            )
        )

    def is_available(self, number: int) -> bool:
        """Whether a member that is not away can be picked now. If it cannot, it is away."""
        if self.available(self.members[number]):
            return True
        self.part_with(number)
        return False

    def part_with(self, number: int) -> None:
        """A member was found not to be available: it is away until the condition says otherwise."""
        self._by_hop_key[self.members[number].hop_key] = number
        self._note(number, self._clock())

    def returned(self) -> Sequence[int]:
        """The members that were away and are back."""
        position, keys = self.condition.returned(self._since)
        if position == self._since:
            return ()
        self._since, known = position, self._by_hop_key
        back = [*known] if keys is None else [key for key in {*keys} if key in known]
        numbers = sorted(known.pop(key) for key in back)
        for number in numbers:
            del self.away[number], self._reasons[number]
            self._summary = None
        return numbers

    def refusal(self, pool: str, host: str, skip: Collection[int]) -> Refusal:
        """Why no member can be picked; those in ``skip`` were tried already."""
        now = self._clock()
        if self._summary is None or self._summary[0] <= now:
            self._summary = self._summed_up(pool, now)
        until, reason, absent, detail = self._summary
        tried = sum(number not in self.away for number in skip) if skip else 0
        if tried:
            reason = Reason.CIRCUIT_OPEN
            again = Sentence("away_tried", "tried already: {number}", number=tried)
            detail = _no_member(pool, [*absent, again])
        retry_after = None if until == math.inf else max(0.0, until - now)
        return Refusal(reason, detail, host=host, retry_after=retry_after)

    def _note(self, number: int, now: float) -> None:
        refusal = self.condition.refusal(self.members[number])
        wait = refusal.retry_after if refusal else None
        self.away[number] = math.inf if wait is None else now + wait
        self._reasons[number] = refusal.reason if refusal else Reason.CIRCUIT_OPEN
        self._summary = None

    def _summed_up(self, pool: str, now: float) -> _Summary:
        due = (number for number, until in self.away.items() if until <= now)
        for number in list(islice(due, _ASKED_AGAIN)):
            self._note(number, now)
        counts = Counter(self._reasons.values())
        reason = Reason.CIRCUIT_OPEN
        if len(counts) == 1:
            [reason] = counts
        elif counts and counts.keys() <= _EXITS:
            reason = Reason.EXIT_MISMATCH
        absent = [
            Sentence("away", "{what}: {number}", what=_WORDS.get(one, one.value), number=number)
            for one, number in counts.most_common()
        ]
        until = min(self.away.values(), default=math.inf)
        return until, reason, absent, _no_member(pool, absent)


def _no_member(pool: str, absent: Sequence[str]) -> str:
    none = "Pool {name} has no available member ({absent})"
    return fail_closed(Sentence("no_available_member", none, name=pool, absent=absent))


class Strategy(ABC):
    """How a member is picked. Asks the roster only for members that are not away."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    @abstractmethod
    def choose(self, skip: Collection[int], key: str, in_doubt: Collection[int] = ()) -> int | None:
        """The number of an available member that is not in ``skip``; ``None`` if there is none.

        ``key`` is what ``sticky_by`` found, for the strategy that needs it. So is ``in_doubt``:
        those in ``skip`` that may be as good as before.
        """

    @abstractmethod
    def take_back(self, number: int) -> None:
        """A member that was away is back."""

    def keeps(self, number: int, key: str) -> bool:  # noqa: ARG002
        """Whether an open connection by a member, which may be away, goes on to be used."""
        return True
