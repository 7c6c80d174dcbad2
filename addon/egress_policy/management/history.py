"""What flows did in the last hour, minute by minute and exit by exit. In memory, and bounded.

Pure but for its clocks, and for the loop only. An exit is a proxy, by its name, or ``direct``. The
first 1,000 exits in use have numbers of their own, the others share those of ``(other)``; an exit
that was not used for an hour makes room. An exit without traffic takes no memory.
"""

import math
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final, Literal, get_args

from ..model.decision import Route
from ..model.rule import DIRECT, OTHER
from ..model.words import iso_time
from ..policy.hop import Outcome
from .attempts import BUCKETS, MOST, Times
from .live import LiveEvent

MINUTES: Final = 60
_HOUR: Final = 60.0 * MINUTES
_RATE: Final = 10
"""Seconds over which the rate of flows is taken."""
_REASONS: Final = 100
_STEPS: Final = 8
"""Classes of hop times to an octave: a class is 9 % wide, and what is shown is its middle."""
_CLASSES: Final = 16 * _STEPS
"""From 1 ms to a minute; what is shorter or longer counts in the first or last class."""

Measure = Literal["flows", "refused", "failed", "up", "down", "hops", "hop_us"]
"""What is counted of an exit: flows that left, flows that were refused, attempts that failed,
perhaps by its fault, bytes to and from it, and how often and how long (µs) it took to reach it."""
_MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)


class Ring:
    """Sums of the last ``size`` ticks. A tick is a whole number; one that lies before the latest
    counts as the latest."""

    __slots__ = ("_latest", "_sums")

    def __init__(self, size: int) -> None:
        self._sums = array("Q", bytes(8 * size))
        self._latest = 0

    def add(self, tick: int, amount: int = 1) -> None:
        if tick > self._latest:
            self._advance(tick)
        self._sums[self._latest % len(self._sums)] += amount

    def total(self, tick: int) -> int:
        """The sum over the ticks that end with this one."""
        if tick > self._latest:
            self._advance(tick)
        return sum(self._sums)

    def listed(self, tick: int) -> list[int]:
        """The sums of the ticks that end with this one, oldest first."""
        if tick > self._latest:
            self._advance(tick)
        split = self._latest % len(self._sums) + 1
        return [*self._sums[split:], *self._sums[:split]]

    def _advance(self, tick: int) -> None:
        size = len(self._sums)
        for passed in range(max(self._latest + 1, tick - size + 1), tick + 1):
            self._sums[passed % size] = 0
        self._latest = tick


@dataclass(slots=True)
class Past:
    """What is kept of one exit. The counts of the minute that runs are plain numbers, because each
    packet changes some of them; ``turn`` puts them into the rows of the hour.

    ``until`` is when that minute ends, ``used`` when the exit was used last, both by the monotonic
    clock. ``sent`` and ``received`` are its bytes in all minutes before.
    """

    flows: int = 0
    refused: int = 0
    failed: int = 0
    up: int = 0
    down: int = 0
    hops: int = 0
    hop_us: int = 0
    minute: int = 0
    until: float = -math.inf
    used: float = -math.inf
    sent: int = 0
    received: int = 0
    _rows: dict[Measure, "array[int]"] = field(default_factory=dict)
    """A row is made when there is something to put into it."""

    def turn(self, minute: int, until: float) -> None:
        """Begin another minute."""
        self.sent += self.up
        self.received += self.down
        gone = range(max(self.minute + 1, minute - MINUTES + 1), minute + 1)
        for measure in _MEASURES:
            count, row = getattr(self, measure), self._rows.get(measure)
            if row is None:
                if not count:
                    continue
                row = self._rows[measure] = array("Q", bytes(8 * MINUTES))
            row[self.minute % MINUTES] = count
            setattr(self, measure, 0)
            for passed in gone:
                row[passed % MINUTES] = 0
        self.minute, self.until = minute, until

    def total(self, measure: Measure) -> int:
        """The sum over the last hour."""
        count: int = getattr(self, measure)
        return count + sum(self._rows.get(measure, ()))

    def listed(self, measure: Measure) -> list[int]:
        """The last hour, oldest minute first."""
        row, count = self._rows.get(measure), getattr(self, measure)
        if row is None:
            return [*_NO_MINUTES, count]
        place = self.minute % MINUTES
        return [*row[place + 1 :], *row[:place], count]


_NO_MINUTES: Final = (0,) * (MINUTES - 1)
NOTHING: Final = Past()
"""Of an exit that was not used."""


class History:
    """``clock`` gives monotonic seconds, ``now`` the time for people. Minutes begin with those of
    the clock on the wall at the start; if that is set later, they stay as long as they are."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock, self._now = clock, now
        self._start = clock() - now().timestamp() % 60
        self._exits: dict[str, Past] = {}
        self._full_until = -math.inf
        """When an exit without use is looked for again."""
        self._ended = Ring(_RATE + 1)
        self._refused = Ring(MINUTES)
        self._reasons: dict[tuple[str, str], Ring] = {}
        self._classes: dict[int, Ring] = {}
        """Hop times of proxies by class."""
        self.durations: dict[str, Times] = {}
        """How long flows took since the start, by use (``proxy`` or ``direct``)."""

    # -- what is counted

    def ended(self, event: LiveEvent) -> None:
        """A flow has ended, or was refused."""
        now = self._clock()
        self._ended.add(int(now - self._start))
        if event.code:
            self._refused.add(self.minute)
            self._reason(event.code, event.reason).add(self.minute)
        elif event.duration_ms is not None:
            times = self.durations.get(event.use)
            if times is None:
                times = self.durations[event.use] = Times([0] * (len(BUCKETS) + 1))
            times.add(event.duration_ms / 1000)
        if name := event.proxy or (DIRECT if DIRECT in (event.use, event.planned) else ""):
            past = self._past(name, now)
            if event.code:
                past.refused += 1
            else:
                past.flows += 1

    def attempted(self, route: Route, outcome: Outcome) -> None:
        """A dial, or a whole attempt to open a tunnel, has ended. A direct dial that fails is the
        target's failure."""
        proxy = route.egress.proxy
        if outcome.step != ("attempt" if proxy else "dial"):
            return
        past = self._past(route.egress.name, self._clock())
        if outcome.failure:
            if proxy and outcome.failure.judgement.fault in ("proxy", "undecided"):
                past.failed += 1
            return
        seconds = outcome.hop if proxy else outcome.ended - outcome.began
        if seconds is None:
            return
        past.hops += 1
        past.hop_us += max(0, round(seconds * 1e6))
        if proxy:
            class_ = _class_of(seconds)
            ring = self._classes.get(class_)
            if ring is None:
                ring = self._classes[class_] = Ring(MINUTES)
            ring.add(self.minute)

    def carried(self, name: str, up: int, down: int) -> None:
        """Bytes went to an exit, or came from it."""
        past = self._past(name, self._clock())
        past.up += up
        past.down += down

    # -- what is shown

    @property
    def minute(self) -> int:
        """The number of the minute that runs; 0 was the one at the start."""
        return max(0, int(self._clock() - self._start) // 60)

    def minutes(self) -> list[str]:
        """When the last 60 minutes began, to the second, oldest first, in ISO 8601 in UTC."""
        passed = timedelta(seconds=(self._clock() - self._start) % 60)
        # The two clocks are not read at the same moment.
        began = (self._now() - passed + timedelta(seconds=0.5)).replace(microsecond=0)
        return [iso_time(began - timedelta(minutes=ago)) for ago in reversed(range(MINUTES))]

    def per_second(self) -> float:
        """Flows that ended a second, over the last ten whole seconds."""
        return sum(self._ended.listed(int(self._clock() - self._start))[:-1]) / _RATE

    def exits(self) -> Mapping[str, Past]:
        """The exits that were used in the last hour, all in the minute that runs."""
        now = self._clock()
        used = {name: past for name, past in self._exits.items() if past.used > now - _HOUR}
        for past in used.values():
            if now >= past.until:
                self._turn(past)
        return used

    def refused(self) -> list[int]:
        """Flows that were refused, minute by minute, whatever their exit."""
        return self._refused.listed(self.minute)

    def reasons(self) -> list[tuple[str, str, int]]:
        """Code, reason and count of the refusals, the most frequent first."""
        minute = self.minute
        found = [(*key, ring.total(minute)) for key, ring in self._reasons.items()]
        return sorted((one for one in found if one[2]), key=lambda one: (-one[2], one[:2]))

    def hop_ms(self, *shares: float) -> list[float | None]:
        """The hop times of proxies, in ms, that these shares of all hops did not exceed; ``None``
        where no hop was measured."""
        minute = self.minute
        counts = [(class_, ring.total(minute)) for class_, ring in sorted(self._classes.items())]
        whole = sum(count for _, count in counts)
        return [_quantile(counts, share * whole) if whole else None for share in shares]

    def age(self, past: Past) -> float:
        """Seconds since an exit was used last."""
        return max(0.0, self._clock() - past.used)

    def bytes(self) -> Iterator[tuple[str, int, int]]:
        """Exit, and its bytes up and down since the start."""
        for name, past in self._exits.items():
            yield name, past.sent + past.up, past.received + past.down

    # -- inside

    def _past(self, name: str, now: float) -> Past:
        """What is kept of an exit that is used now."""
        past = self._exits.get(name) or self._begun(name, now)
        if now >= past.until:
            self._turn(past)
        if now > past.used:
            past.used = now
        return past

    def _turn(self, past: Past) -> None:
        minute = self.minute
        past.turn(minute, self._start + (minute + 1) * 60)

    def _begun(self, name: str, now: float) -> Past:
        if len(self._exits) >= MOST and not self._made_room(now):
            name = OTHER
        return self._exits.setdefault(name, Past())

    def _made_room(self, now: float) -> bool:
        """Forget the exits without use in the last hour; ``(other)`` has their bytes now."""
        if now < self._full_until:
            return False
        self._full_until = now + 60
        unused = [name for name, past in self._exits.items() if past.used <= now - _HOUR]
        for name in unused:
            if name != OTHER:
                past, other = self._exits.pop(name), self._exits.setdefault(OTHER, Past())
                other.sent += past.sent + past.up
                other.received += past.received + past.down
        return len(self._exits) < MOST

    def _reason(self, code: str, reason: str) -> Ring:
        ring = self._reasons.get((code, reason))
        if ring is None:
            key = (code, reason) if len(self._reasons) < _REASONS else (OTHER, OTHER)
            ring = self._reasons.setdefault(key, Ring(MINUTES))
        return ring


def _class_of(seconds: float) -> int:
    octaves = math.log2(max(seconds * 1000, 1.0))
    return min(int(octaves * _STEPS), _CLASSES - 1)


def _quantile(counts: list[tuple[int, int]], wanted: float) -> float:
    """The middle of the class that the ``wanted``-th hop time falls into, in ms."""
    passed = accumulate(count for _, count in counts)
    class_ = next(one for (one, _), sum_ in zip(counts, passed, strict=True) if sum_ >= wanted)
    return round(math.pow(2.0, (class_ + 0.5) / _STEPS), 1)
