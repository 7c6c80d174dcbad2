"""Whose turn it is to be greeted among the proxies that wait for a trial. Pure.

Each pool has one greeting a second, so that a pool whose members are all dead is left in peace. A
large pool has more, so that each of its members still gets its turn within ten minutes.
"""

from collections import deque
from collections.abc import Callable, Iterable
from operator import is_
from typing import Final

from ..model.decision import Egress
from ..model.pool import Pool
from .schedule import Pace

INTERVAL: Final = 1.0
"""Seconds from one greeting to the next in a pool."""
ROUND: Final = 600.0
"""Seconds within which each member of a large pool can be greeted once."""

_NEVER: Final = float("-inf")


class Turns:
    """Times are seconds of one clock. ``pace`` is shared with others that dial."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._planned: tuple[Pool, ...] = ()
        self._pools: dict[str, tuple[str, ...]] = {}
        """The pools of each proxy, by its name."""
        self._paces: dict[str, Pace] = {}
        self._waiting: dict[tuple[str, ...], deque[Egress]] = {}

    def plan(self, pools: Iterable[Pool]) -> None:
        """Follow a policy."""
        pools = tuple(pools)
        if len(pools) == len(self._planned) and all(map(is_, pools, self._planned)):
            return
        self._planned = pools
        found: dict[str, tuple[str, ...]] = {}
        sizes: dict[str, int] = {}
        for pool in pools:
            sizes[pool.name] = len(pool.members)
            for name in pool.names:
                found[name] = (*found.get(name, ()), pool.name)
        self._pools = found
        before, self._paces = self._paces, {}
        for name, size in sizes.items():
            pace = self._paces[name] = before.get(name) or Pace(INTERVAL)
            pace.interval = min(INTERVAL, ROUND / max(size, 1))

    def pools_of(self, proxy: str) -> tuple[str, ...]:
        """The names of the pools that have a proxy."""
        return self._pools.get(proxy, ())

    def wait(self, due: Iterable[Egress]) -> None:
        """These wait now, in this order, and nobody else."""
        self._waiting = {}
        for egress in due:
            self._waiting.setdefault(self.pools_of(egress.name), deque()).append(egress)

    def take(self, now: float, may: Callable[[Egress], bool]) -> Egress | None:
        """The one to greet now, if there is one. Those that ``may`` not now lose their turn."""
        if self._pace.free_at > now:
            return None
        ready = [pools for pools, waiting in self._waiting.items() if waiting]
        for pools in sorted(ready, key=self._free_at):
            if self._free_at(pools) > now:
                break
            waiting = self._waiting[pools]
            while waiting:
                egress = waiting.popleft()
                if may(egress):
                    for pace in (self._pace, *self._paces_of(pools)):
                        pace.take(now)
                    return egress
        return None

    def next(self, now: float) -> float | None:
        """When ``take`` may find one; ``None`` while nobody waits."""
        times = [self._free_at(pools) for pools, waiting in self._waiting.items() if waiting]
        return max(min(times), self._pace.free_at, now) if times else None

    def _paces_of(self, pools: tuple[str, ...]) -> list[Pace]:
        return [self._paces[pool] for pool in pools if pool in self._paces]

    def _free_at(self, pools: tuple[str, ...]) -> float:
        """When all these pools may have a greeting. A proxy of no pool has no such limit."""
        return max((pace.free_at for pace in self._paces_of(pools)), default=_NEVER)
