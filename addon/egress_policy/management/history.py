"""What flows did in the last hour, minute by minute and exit by exit. In memory, and bounded.

Pure but for its clocks, and for the loop only. An exit is a proxy, by its name, or ``direct``. The
first 1,000 exits in use have numbers of their own, the others share those of ``other``; an exit
that was not used for an hour makes room. An exit without traffic takes no memory.
"""

import math
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final, Literal

from ..model.decision import Route
from ..model.words import iso_time
from ..policy.hop import Outcome
from .attempts import BUCKETS, MOST, OTHER, Times
from .live import LiveEvent

MINUTES: Final = 60
DIRECT: Final = "direct"
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


class Ring:
    """Sums of the last ``size`` ticks. A tick is a whole number; one that lies before the latest
    counts as the latest."""

    __slots__ = ("_latest", "_sums", "_total")

    def __init__(self, size: int) -> None:
        self._sums = array("Q", bytes(8 * size))
        self._latest = self._total = 0

    def add(self, tick: int, amount: int = 1) -> None:
        if tick > self._latest:
            self._advance(tick)
        self._sums[self._latest % len(self._sums)] += amount
        self._total += amount

    def total(self, tick: int) -> int:
        """The sum over the ticks that end with this one."""
        if tick > self._latest:
            self._advance(tick)
        return self._total

    def listed(self, tick: int) -> list[int]:
        """The sums of the ticks that end with this one, oldest first."""
        if tick > self._latest:
            self._advance(tick)
        split = self._latest % len(self._sums) + 1
        return [*self._sums[split:], *self._sums[:split]]

    def _advance(self, tick: int) -> None:
        size = len(self._sums)
        for passed in range(max(self._latest + 1, tick - size + 1), tick + 1):
            self._total -= self._sums[passed % size]
            self._sums[passed % size] = 0
        self._latest = tick


@dataclass(slots=True)
class Past:
    """What is kept of one exit. ``used`` is the second of its last use; ``up`` and ``down`` are
    all its bytes since it is kept. A ring is made when there is something to count."""

    rings: dict[Measure, Ring]
    used: int = 0
    up: int = 0
    down: int = 0

    def add(self, measure: Measure, minute: int, amount: int = 1) -> None:
        ring = self.rings.get(measure)
        if ring is None:
            ring = self.rings[measure] = Ring(MINUTES)
        ring.add(minute, amount)

    def total(self, measure: Measure, minute: int) -> int:
        ring = self.rings.get(measure)
        return ring.total(minute) if ring else 0

    def listed(self, measure: Measure, minute: int) -> list[int]:
        """The last hour, oldest minute first."""
        ring = self.rings.get(measure)
        return ring.listed(minute) if ring else [0] * MINUTES


NOTHING: Final = Past({})
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
        self._second = 0
        self._exits: dict[str, Past] = {}
        self._full_until = 0
        """The second from which on an exit without use is looked for again."""
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
        second = self._tick()
        minute = second // 60
        self._ended.add(second)
        if event.code:
            self._refused.add(minute)
            self._reason(event.code, event.reason).add(minute)
        if name := event.proxy or (DIRECT if event.use == DIRECT else ""):
            past = self._past(name, second)
            past.add("refused" if event.code else "flows", minute)
        if event.duration_ms is not None and not event.code:
            times = self.durations.get(event.use)
            if times is None:
                times = self.durations[event.use] = Times([0] * (len(BUCKETS) + 1))
            times.add(event.duration_ms / 1000)

    def attempted(self, route: Route, outcome: Outcome) -> None:
        """A dial, or a whole attempt to open a tunnel, has ended. A direct dial that fails is the
        target's failure."""
        proxy = route.egress.proxy
        if outcome.step != ("attempt" if proxy else "dial"):
            return
        second = self._tick()
        minute = second // 60
        past = self._past(route.egress.name, second)
        if outcome.failure:
            if proxy and outcome.failure.judgement.fault in ("proxy", "undecided"):
                past.add("failed", minute)
            return
        seconds = outcome.hop if proxy else outcome.ended - outcome.began
        if seconds is None:
            return
        past.add("hops", minute)
        past.add("hop_us", minute, max(0, round(seconds * 1e6)))
        if proxy:
            class_ = _class_of(seconds)
            ring = self._classes.get(class_)
            if ring is None:
                ring = self._classes[class_] = Ring(MINUTES)
            ring.add(minute)

    def carried(self, name: str, up: int, down: int) -> None:
        """Bytes went to an exit, or came from it."""
        second = self._tick()
        past = self._past(name, second)
        if up:
            past.up += up
            past.add("up", second // 60, up)
        if down:
            past.down += down
            past.add("down", second // 60, down)

    # -- what is shown

    @property
    def minute(self) -> int:
        """The minute that runs."""
        return self._tick() // 60

    def minutes(self) -> list[str]:
        """When the last 60 minutes began, oldest first, in ISO 8601 in UTC."""
        began = self._now() - timedelta(seconds=(self._clock() - self._start) % 60)
        return [iso_time(began - timedelta(minutes=ago)) for ago in reversed(range(MINUTES))]

    def per_second(self) -> float:
        """Flows that ended a second, over the last ten whole seconds."""
        return sum(self._ended.listed(self._tick())[:-1]) / _RATE

    def exits(self) -> Mapping[str, Past]:
        """The exits that were used in the last hour."""
        oldest = self._tick() - MINUTES * 60
        return {name: past for name, past in self._exits.items() if past.used > oldest}

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
        return max(0.0, self._clock() - self._start - past.used)

    def bytes(self) -> Iterator[tuple[str, int, int]]:
        """Exit, and its bytes up and down since the start."""
        return ((name, past.up, past.down) for name, past in self._exits.items())

    # -- inside

    def _tick(self) -> int:
        """The second that runs. It never goes back, whatever the clock does."""
        second = int(self._clock() - self._start)
        if second > self._second:
            self._second = second
        return self._second

    def _past(self, name: str, second: int) -> Past:
        past = self._exits.get(name) or self._begun(name, second)
        past.used = second
        return past

    def _begun(self, name: str, second: int) -> Past:
        if len(self._exits) >= MOST and not self._made_room(second):
            return self._exits.setdefault(OTHER, Past({}))
        return self._exits.setdefault(name, Past({}))

    def _made_room(self, second: int) -> bool:
        """Forget the exits without use in the last hour; their bytes are those of ``other`` now."""
        if second < self._full_until:
            return False
        self._full_until = second + 60
        oldest = second - MINUTES * 60
        unused = [name for name, past in self._exits.items() if past.used <= oldest]
        for name in unused:
            if name != OTHER:
                past, other = self._exits.pop(name), self._exits.setdefault(OTHER, Past({}))
                other.up += past.up
                other.down += past.down
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
