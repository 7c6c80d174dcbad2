"""A pool under load in simulated time: packets that are lost and sent again, timeouts, fail-over.

It knows nothing of circuits. It connects as Linux does, and reports to ``Health`` what a dialler
would see.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import Cause
from egress_policy.policy.health import CircuitEvent, Health
from egress_policy.policy.hop import HopFailure, Outcome, broken, silent, unanswered

CONNECT_LIMIT = 5.0
HANDSHAKE_LIMIT = 10.0
SYNS = (0.0, 1.0, 3.0, 7.0)
RESENT = (0.0, 0.2, 0.6, 1.4, 3.0, 6.2, 12.6)
"""When the bytes of an open connection are sent, and sent again."""
TARGET = ("origin.test", 443)

Span = tuple[float, float]
Pick = Callable[["Load", int, Sequence[Egress]], Egress]


def member(number: int, **fields: object) -> Egress:
    """A proxy at an address of its own."""
    host = f"203.0.113.{number}"
    return Egress(Proxy.model_validate({"name": f"home-{number}", "host": host, **fields}))


@dataclass
class Load:
    """Requests that leave by the members of a pool. ``rtt`` is in seconds, and a little of it is
    chance. ``down`` is when the uplink carries nothing."""

    members: Sequence[Egress]
    pick: Pick
    down: Sequence[Span] = ()
    holes: frozenset[str] = frozenset()
    """Members whose packets are lost for ever."""
    target_down: Sequence[Span] = ()
    """When the target is dead: the proxies answer 502 at once."""
    failover: int = 1
    rtt: float = 0.05
    seed: int = 1
    now: float = 0.0
    active: dict[str, int] = field(default_factory=dict)
    events: list[CircuitEvent] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    picks: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.health = Health(lambda: self.now, random.Random(self.seed), self.events.append)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def run(self, arrivals: Sequence[float]) -> None:
        for number, at in enumerate(arrivals):
            self._at(at, partial(self._request, number, self.failover, ()))
        while self._agenda:
            self.now, _, act = heapq.heappop(self._agenda)
            act()

    def opened(self) -> list[tuple[float, str]]:
        """The times at which circuits opened, with the names of the members."""
        return [
            (event.at, event.egress.name)
            for event in self.events
            if event.kind == "opened" and event.egress
        ]

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._numbers), act))

    def _request(self, number: int, left: int, tried: tuple[str, ...]) -> None:
        free = [
            one for one in self.members if one.name not in tried and self.health.is_available(one)
        ]
        if not free:
            self.errors.append(self.now)
            return
        egress = self.pick(self, number, free)
        self.health.taken(egress)
        self.picks.append((self.now, egress.name))
        self.active[egress.name] = self.active.get(egress.name, 0) + 1
        self._connect(egress, number, left, (*tried, egress.name))

    def _connect(self, egress: Egress, number: int, left: int, tried: tuple[str, ...]) -> None:
        began = self.now
        connected = self._delivered(egress, began, SYNS, CONNECT_LIMIT)
        address = egress.proxy.host if egress.proxy else ""
        end = partial(self._end, egress, number, left, tried, began)
        if connected is None:
            lost = unanswered(address, 8080, CONNECT_LIMIT)
            self._at(began + CONNECT_LIMIT, partial(self._dialled, egress, began, lost))
            self._at(began + CONNECT_LIMIT, partial(end, lost, None))
            return
        self._at(connected, partial(self._dialled, egress, began, None))
        hop = connected - began
        answered = self._delivered(egress, connected, RESENT, HANDSHAKE_LIMIT)
        if answered is None:
            quiet = silent(HANDSHAKE_LIMIT, "", asked=True)
            self._at(connected + HANDSHAKE_LIMIT, partial(end, quiet, hop))
        elif any(start <= answered < stop for start, stop in self.target_down):
            self._at(answered, partial(end, broken("502", Cause.UNDECIDED), hop))
        else:
            self._at(answered, partial(end, None, hop))

    def _delivered(
        self, egress: Egress, began: float, sendings: Sequence[float], limit: float
    ) -> float | None:
        """When the answer comes to what is sent at these times after ``began``."""
        rtt = self.rtt * self.random.uniform(0.5, 1.5)
        for wait in sendings:
            sent, back = began + wait, began + wait + rtt
            lost = any(start - rtt < sent < stop for start, stop in self.down)
            if back <= began + limit and not lost and egress.name not in self.holes:
                return back
        return None

    def _dialled(self, egress: Egress, began: float, failure: HopFailure | None) -> None:
        self._report(egress, "dial", began, failure, None)

    def _end(
        self,
        egress: Egress,
        number: int,
        left: int,
        tried: tuple[str, ...],
        began: float,
        failure: HopFailure | None,
        hop: float | None,
    ) -> None:
        self.active[egress.name] -= 1
        self._report(egress, "attempt", began, failure, hop)
        if failure and left:
            self._request(number, left - 1, tried)
        elif failure:
            self.errors.append(self.now)

    def _report(
        self, egress: Egress, step: str, began: float, failure: HopFailure | None, hop: float | None
    ) -> None:
        address = egress.proxy.host if egress.proxy else ""
        outcome = Outcome(step, address, failure, began, self.now, hop)  # type: ignore[arg-type]
        self.health.report(egress, TARGET, "homes", outcome)


# --- strategies, as simple as can be


def first(_: Load, __: int, free: Sequence[Egress]) -> Egress:
    return free[0]


def in_turns(_: Load, number: int, free: Sequence[Egress]) -> Egress:
    return free[number % len(free)]


def by_chance(load: Load, _: int, free: Sequence[Egress]) -> Egress:
    return load.random.choice(free)


def fewest(load: Load, _: int, free: Sequence[Egress]) -> Egress:
    two = load.random.sample(list(free), min(2, len(free)))
    return min(two, key=lambda one: load.active.get(one.name, 0))


def quickest(load: Load, _: int, free: Sequence[Egress]) -> Egress:
    two = load.random.sample(list(free), min(2, len(free)))
    return min(
        two,
        key=lambda one: (load.health.cost(one) or 0.1) * (load.active.get(one.name, 0) + 1),
    )


def sticky(_: Load, number: int, free: Sequence[Egress]) -> Egress:
    """Ten clients in turns, by rendezvous."""
    client = number % 10
    return max(free, key=lambda one: random.Random(f"{client} {one.name}").random())


STRATEGIES: dict[str, Pick] = {
    "first": first,
    "round-robin": in_turns,
    "random": by_chance,
    "least-connections": fewest,
    "latency": quickest,
    "sticky": sticky,
}


def steady(rate: float, until: float) -> list[float]:
    return [number / rate for number in range(int(until * rate))]


def at_random(rate: float, until: float, seed: int) -> list[float]:
    """Arrivals that know nothing of each other (Poisson)."""
    rng, at, arrivals = random.Random(seed), 0.0, []
    while (at := at + rng.expovariate(rate)) < until:
        arrivals.append(at)
    return arrivals
