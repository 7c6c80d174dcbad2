"""Flows as they end: a ring of the latest events, their watchers, and totals.

For the loop only, without I/O. Events carry no headers and no bodies, which may hold secrets.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Final, Literal, Self

from ..model.words import iso_time

RING: Final = 500
"""How many events are kept, and how many may wait for a watcher."""

FlowKind = Literal["http", "websocket", "tcp", "udp", "dns"]
FlowUse = Literal["proxy", "direct", "refuse"]


@dataclass(slots=True, kw_only=True)
class LiveEvent:
    """One flow: the egress it took and why, or ``code`` and ``reason`` of its refusal.

    ``at`` is in seconds since the epoch; ``seq`` is given by the feed and counts from 1. The texts
    are those of ``flow.metadata`` (``egress.use`` …), empty where there is nothing to say.
    ``proxy`` is also that of a refused flow, if one was chosen for it; ``planned`` is ``direct``
    for a refused flow that was to leave directly. ``path`` has the query with it. ``hop_port`` is
    the port dialled at ``address``. Times are in ms: ``dns_ms``, ``connect_ms`` and
    ``handshake_ms`` tell how the connection was opened, for an earlier flow if it is ``reused``;
    ``first_byte_ms`` is the wait from then, or from the request's end if that is later, to the
    answer's head; ``answer_ms`` goes from there to its end; ``duration_ms`` is that of the whole
    flow. ``sent`` and ``received`` are the bytes of bodies and messages, as far as they are known.
    ``cut`` says why it ended early, at the time ``at`` (``one_line.Cut``).
    """

    seq: int = 0
    at: float
    flow_id: str
    client: str
    kind: FlowKind
    method: str = ""
    scheme: str = ""
    host: str
    port: int
    path: str = ""
    use: FlowUse
    proxy: str = ""
    pool: str = ""
    strategy: str = ""
    attempt: int | None = None
    tried: str = ""
    fault: str = ""
    rule: str = ""
    unmatched: bool = False
    family: str = ""
    address: str = ""
    hop_port: int | None = None
    peer_family: str = ""
    exit: str = ""
    planned: str = ""
    reused: bool | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    handshake_ms: float | None = None
    first_byte_ms: float | None = None
    answer_ms: float | None = None
    duration_ms: float | None = None
    sent: int | None = None
    received: int | None = None
    status: int | None = None
    code: str = ""
    reason: str = ""
    cut: str = ""

    def shown(self) -> dict[str, object]:
        """As the faces show it: plain values, ``at`` in ISO 8601 in UTC."""
        values: dict[str, object] = {name: getattr(self, name) for name in _FIELDS}
        return values | {"at": iso_time(datetime.fromtimestamp(self.at, UTC))}

    def without_query(self) -> Self:
        """The same flow for those who are not to see queries, which may hold secrets."""
        return replace(self, path=self.path.partition("?")[0])


_FIELDS: Final = tuple(one.name for one in fields(LiveEvent))


@dataclass(slots=True)
class Totals:
    """Since the start. ``refusals`` are counted by code and reason.

    A refused flow did not leave: ``by_use`` counts it under ``refuse``, and ``by_proxy`` does not
    count it.
    """

    flows: int = 0
    unmatched: int = 0
    by_use: Counter[str] = field(default_factory=Counter)
    by_proxy: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count(self, event: LiveEvent) -> None:
        self.flows += 1
        self.unmatched += event.unmatched
        if event.code:
            self.by_use["refuse"] += 1
            self.refusals[event.code, event.reason] += 1
            return
        self.by_use[event.use] += 1
        if event.proxy:
            self.by_proxy[event.proxy] += 1


class Subscription:
    """An async iterator over the events from now on, until the feed is closed.

    If it is too slow, it loses the oldest events, which ``lost`` counts. Cancelling a ``next``
    loses nothing.
    """

    def __init__(self, limit: int = RING) -> None:
        self.lost = 0
        self._waiting: deque[LiveEvent] = deque(maxlen=limit)
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, event: LiveEvent) -> None:
        self.lost += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(event)
        self._wake.set()

    def close(self) -> None:
        """End it once the waiting events have been taken."""
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LiveEvent:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()

    def take(self) -> list[LiveEvent]:
        """All waiting events, without waiting for one."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class LiveFeed:
    """Takes one event for each flow. Each of ``counters`` is called with it."""

    def __init__(self, *counters: Callable[[LiveEvent], None]) -> None:
        self.totals = Totals()
        self._counters = (self.totals.count, *counters)
        self._ring: deque[LiveEvent] = deque(maxlen=RING)
        self._subscriptions: set[Subscription] = set()
        self._seq = 0

    def publish(self, event: LiveEvent) -> None:
        """Count it, keep it and hand it to the watchers. It must not be changed afterwards."""
        self._seq += 1
        event.seq = self._seq
        self._ring.append(event)
        for count in self._counters:
            count(event)
        for subscription in self._subscriptions:
            subscription.put(event)

    def since(self, seq: int) -> tuple[LiveEvent, ...]:
        """The kept events after ``seq``; all of them if ``seq`` comes from another run.

        To miss and repeat nothing, call ``subscribe`` with no ``await`` in between.
        """
        after = seq if seq <= self._seq else 0
        return tuple(event for event in self._ring if event.seq > after)

    @contextmanager
    def subscribe(self, limit: int = RING) -> Iterator[Subscription]:
        """Watch while the block runs; ``limit`` is how many events may wait."""
        subscription = Subscription(limit)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End all subscriptions."""
        for subscription in self._subscriptions:
            subscription.close()
