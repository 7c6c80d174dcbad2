"""When which member of a pool is checked next. Pure.

Whoever holds the schedule passes the time in, starts the checks that it hands out, and says when
they have ended. What cannot be kept up with comes late, never in a burst.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ..model.decision import Egress, Place
from ..model.pool import Checks, Pool
from ..model.proxy import Proxy
from ..model.target_url import TargetUrl, parse_test_url
from ..policy.snapshot import Snapshot

AT_ONCE: Final = 32
AT_A_HOP: Final = 2
"""Checks that run at a time for one hop address: many proxies may be accounts at one gateway."""
INTERVAL: Final = 0.05
"""Seconds from one check to the next, whatever they are for."""
TARGET_INTERVAL: Final = 0.25
"""Seconds from one check to the next that asks for the same target."""
JITTER: Final = 0.2
_LOOKED_AT: Final = 500
"""Due members that are looked at in one go, most of which may need no check."""
_GONE: Final = -1

Key = tuple[str, str]
"""The names of a pool and of a member."""


class Pace:
    """Lets one through in each ``interval`` of seconds."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.free_at = float("-inf")

    def take(self, now: float) -> None:
        self.free_at = now + self.interval

    def overtake(self, now: float) -> None:
        """One goes out of turn; the next one waits the longer for it."""
        self.free_at = max(self.free_at, now) + self.interval


@dataclass(frozen=True, slots=True)
class Check:
    """What is to be done for a member of a pool. Without ``url`` the proxy is greeted."""

    pool: str
    egress: Egress
    how: Checks
    url: TargetUrl | None = None

    @property
    def key(self) -> Key:
        return self.pool, self.egress.name

    @property
    def target(self) -> Place | None:
        return (self.url.host, self.url.port) if self.url else None

    @property
    def hop(self) -> Place:
        proxy = self.egress.proxy
        return (proxy.host, proxy.port) if proxy else ("", 0)


@dataclass(slots=True, eq=False)
class _Entry:
    """``turn`` is that of its valid place in a queue."""

    check: Check
    due: float
    turn: int = _GONE
    began: float | None = None


type _Item = tuple[float, int, _Entry]


@dataclass(slots=True, eq=False)
class _Lane:
    """The members whose checks ask for one target."""

    pace: Pace
    queue: list[_Item] = field(default_factory=list)

    def head(self) -> _Item | None:
        while self.queue and self.queue[0][1] != self.queue[0][2].turn:
            heapq.heappop(self.queue)
        return self.queue[0] if self.queue else None


@dataclass(slots=True, eq=False)
class _Planned:
    """A pool with checks, and its members that are checked, by their names."""

    pool: Pool
    how: Checks
    names: frozenset[str]
    url_for: "_Urls"
    entries: dict[str, _Entry] = field(default_factory=dict)


class Schedule:
    """Times are seconds of one clock. ``pace`` is shared with others that dial."""

    def __init__(self, chance: random.Random, pace: Pace) -> None:
        self._random = chance
        self._pace = pace
        self._policy: Snapshot | None = None
        self._pools: dict[str, _Planned] = {}
        self._lanes: dict[Place | None, _Lane] = {}
        self._parked: dict[Place, deque[_Item]] = {}
        """Members that are due and wait for another check at their hop address."""
        self._at_hop: Counter[Place] = Counter()
        self._turns = 0

    def __len__(self) -> int:
        return sum(len(planned.entries) for planned in self._pools.values())

    def find(self, key: Key) -> Check | None:
        """The check of a member as it is planned now; ``None`` if there is none."""
        entry = self._find(key)
        return entry.check if entry else None

    def checks(self) -> Iterator[Check]:
        """All that are planned."""
        for planned in self._pools.values():
            for entry in planned.entries.values():
                yield entry.check

    @property
    def running(self) -> int:
        return self._at_hop.total()

    # -- the plan

    def plan(self, snapshot: Snapshot, now: float) -> None:
        """Follow a policy. What stays keeps its time; what is new is spread over its interval.

        An edit changes a few entries among thousands, and the others are the same objects.
        """
        edited = self._edited(snapshot)
        before, self._pools, self._policy = self._pools, {}, snapshot
        for pool in snapshot.pools.values():
            if pool.checks is None:
                continue
            planned, names = before.pop(pool.name, None), edited
            if planned is None or planned.pool is not pool:
                planned, names = self._replan(pool, pool.checks, planned), None
            self._pools[pool.name] = planned
            for name in pool.names if names is None else names & planned.names:
                self._plan_member(planned, name, snapshot, now)
        for gone in before.values():
            for entry in gone.entries.values():
                entry.turn = _GONE
        used = {target for planned in self._pools.values() for target in planned.url_for.targets}
        self._lanes = {
            target: lane
            for target, lane in self._lanes.items()
            if target in used or lane.pace.free_at > now
        }

    def _edited(self, snapshot: Snapshot) -> set[str] | None:
        """The proxies that are others than before; ``None`` where each may be."""
        if self._policy is None or self._policy.socks5_enabled != snapshot.socks5_enabled:
            return None
        now, before = snapshot.proxies, self._policy.proxies
        changed = {name for name, proxy in now.items() if before.get(name) is not proxy}
        return changed | (before.keys() - now.keys())

    def _replan(self, pool: Pool, how: Checks, before: _Planned | None) -> _Planned:
        if before is not None and before.how == how:
            how = before.how  # an entry is judged by the object
        planned = _Planned(pool, how, frozenset(pool.names), _Urls(how))
        for name, entry in before.entries.items() if before else ():
            if name in planned.names:
                planned.entries[name] = entry
            else:
                entry.turn = _GONE
        return planned

    def _plan_member(self, planned: _Planned, name: str, snapshot: Snapshot, now: float) -> None:
        proxy, entry = snapshot.proxies.get(name), planned.entries.get(name)
        how = planned.how
        if proxy is None or not is_usable(proxy, snapshot):
            if entry:
                entry.turn = _GONE
                del planned.entries[name]
            return
        if entry and entry.check.egress.proxy is proxy and entry.check.how is how:
            return
        egress = Egress(proxy, proxy.family, proxy.target_family)
        check = Check(planned.pool.name, egress, how, planned.url_for(proxy))
        first = now + self._random.random() * how.every
        if entry is None:
            entry = planned.entries[name] = _Entry(check, first)
        else:
            if entry.check.how.every != how.every:
                entry.due = min(entry.due, first)
            entry.check = check
        if entry.began is None:
            self._enqueue(entry)

    def _find(self, key: Key) -> _Entry | None:
        planned = self._pools.get(key[0])
        return planned.entries.get(key[1]) if planned else None

    def _enqueue(self, entry: _Entry) -> None:
        target = entry.check.target
        lane = self._lanes.get(target)
        if lane is None:
            pace = Pace(TARGET_INTERVAL if target else INTERVAL)
            lane = self._lanes[target] = _Lane(pace)
        self._turns += 1
        entry.turn = self._turns
        heapq.heappush(lane.queue, (entry.due, entry.turn, entry))

    # -- what is due

    def take(self, now: float, is_needless: Callable[[Check], bool]) -> list[Check]:
        """The checks to start now. A member whose check ``is_needless`` waits another interval."""
        taken: list[Check] = []
        for _ in range(_LOOKED_AT):
            if self.running >= AT_ONCE or self._pace.free_at > now:
                break
            lane = self._ready(now)
            if lane is None:
                break
            item = heapq.heappop(lane.queue)
            entry = item[2]
            check = entry.check
            if is_needless(check):
                entry.due = self._after(now, check)
                self._enqueue(entry)
            elif self._at_hop[check.hop] >= AT_A_HOP:
                self._parked.setdefault(check.hop, deque()).append(item)
            else:
                entry.turn, entry.began = _GONE, now
                self._at_hop[check.hop] += 1
                self._pace.take(now)
                lane.pace.take(now)
                taken.append(check)
        return taken

    def ended(self, check: Check, now: float) -> None:
        """A check that was handed out has ended, however it did."""
        self._at_hop[check.hop] -= 1
        if not self._at_hop[check.hop]:
            del self._at_hop[check.hop]
        entry = self._find(check.key)
        if entry and entry.began is not None:
            entry.due = max(now, self._after(entry.began, entry.check))
            entry.began = None
            self._enqueue(entry)
        for _, turn, waiting in self._parked.pop(check.hop, ()):
            if waiting.turn == turn:
                self._enqueue(waiting)

    def next(self, now: float) -> float | None:
        """When ``take`` may find something; ``None`` if a check must end or the plan change."""
        if self.running >= AT_ONCE:
            return None
        times = (max(head[0], lane.pace.free_at) for lane, head in self._heads())
        first = min(times, default=None)
        return None if first is None else max(first, self._pace.free_at, now)

    def lag(self, now: float) -> float:
        """For how many seconds the member has been due that waits longest."""
        waiting = [head[0] for _, head in self._heads()]
        waiting += [
            due for items in self._parked.values() for due, turn, one in items if one.turn == turn
        ]
        return max(0.0, now - min(waiting, default=now))

    def _heads(self) -> Iterator[tuple[_Lane, _Item]]:
        for lane in self._lanes.values():
            if head := lane.head():
                yield lane, head

    def _ready(self, now: float) -> _Lane | None:
        """The lane with the member that has been due longest, of those that may go on."""
        ready = [
            (head[0], head[1], lane)
            for lane, head in self._heads()
            if head[0] <= now and lane.pace.free_at <= now
        ]
        return min(ready)[2] if ready else None

    def _after(self, now: float, check: Check) -> float:
        return now + check.how.every * self._random.uniform(1 - JITTER, 1 + JITTER)


class _Urls:
    """What a pool's checks ask for, by the family in which a proxy leaves."""

    def __init__(self, how: Checks) -> None:
        urls = how.url
        self._of = {
            family: parse_test_url(text)
            for family, text in (
                ("ipv4", urls.ipv4 if urls else None),
                ("ipv6", urls.ipv6 if urls else None),
            )
            if text
        }

    @property
    def targets(self) -> set[Place | None]:
        return {None, *((url.host, url.port) for url in self._of.values())}

    def __call__(self, proxy: Proxy) -> TargetUrl | None:
        """``None`` where the family has no URL: such a proxy is greeted."""
        family = proxy.target_family or proxy.exit_family or proxy.family
        if family == "auto":
            return next(iter(self._of.values()), None)
        return self._of.get(family)


def is_usable(proxy: Proxy, snapshot: Snapshot) -> bool:
    """Whether a policy lets anything leave by a proxy."""
    is_off = proxy.type == "socks5" and not snapshot.socks5_enabled
    return proxy.status == "active" and not is_off
