"""Counts what came of the attempts of flows at a tunnel, for metrics.

Counting an attempt costs about as much as a look-up. Memory is bounded: proxies, pools and their
pairs that come after the first so many are counted together as ``(other)``.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from ..model.decision import Route
from ..model.rule import OTHER
from ..policy.hop import Outcome

MOST: Final = 1_000
"""Names of proxies, and of pools, that have series of their own."""
MOST_SERIES: Final = 20_000
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of times in histograms, in seconds."""


class Attempted(NamedTuple):
    """What attempts are counted by. ``pool`` is empty outside of pools, ``proxy`` is ``direct``
    without one, ``fault`` is whose fault a failure was, empty where that is no question."""

    pool: str
    proxy: str
    outcome: Literal["ok", "failed"]
    fault: str


@dataclass(slots=True)
class Times:
    """How many things took up to each bound of ``BUCKETS``, and longer; ``total`` is in seconds."""

    counts: list[int]
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """The buckets as Prometheus has them, each with those before it."""
        bounds = (*map(str, BUCKETS), "+Inf")
        return zip(bounds, accumulate(self.counts), strict=True)


class Attempts:
    """Since the start. ``saw`` and ``failed_over`` are called for each attempt."""

    def __init__(self) -> None:
        self.counts: Counter[Attempted] = Counter()
        self.failovers: Counter[str] = Counter()
        self.hops: dict[str, Times] = {}
        """By pool."""
        self._proxies: set[str] = set()
        self._pools: set[str] = set()

    def saw(self, route: Route, outcome: Outcome) -> None:
        """Count what came of an attempt."""
        failure, pool = outcome.failure, _within(self._pools, route.choice.pool)
        proxy = _within(self._proxies, route.egress.name)
        if failure:
            key = Attempted(pool, proxy, "failed", failure.judgement.fault)
        else:
            key = Attempted(pool, proxy, "ok", "")
        if key not in self.counts and len(self.counts) >= MOST_SERIES:
            key = key._replace(pool=OTHER, proxy=OTHER)
        self.counts[key] += 1
        if outcome.hop is not None:
            self._time(pool, outcome.hop)

    def failed_over(self, pool: str) -> None:
        """Count that another member of a pool is tried."""
        self.failovers[_within(self._pools, pool)] += 1

    def _time(self, pool: str, seconds: float) -> None:
        times = self.hops.get(pool)
        if times is None:
            times = self.hops[pool] = Times([0] * (len(BUCKETS) + 1))
        times.add(seconds)


def _within(known: set[str], name: str) -> str:
    """The name, or ``(other)`` for one that comes after the first so many."""
    if name not in known:
        if len(known) >= MOST:
            return OTHER
        known.add(name)
    return name
