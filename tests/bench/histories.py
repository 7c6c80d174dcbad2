"""What the last hour takes in memory, where every exit was used in each of its minutes.

Ours has twice as many exits as are kept apart, theirs as many as these.
"""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime

from egress_policy.management.attempts import MOST
from egress_policy.management.history import MINUTES, History
from egress_policy.management.live import LiveEvent
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.proxy import Proxy
from egress_policy.policy.hop import Outcome
from tests.bench.pairs import Aim, Row, row

_MB = 1024 * 1024
_TARGET = "192.0.2.9", 443


def measure(pairs: int) -> Iterator[Row]:
    found = [(_size(2 * MOST), _size(MOST)) for _ in range(pairs)]
    what = f"histories: an hour of {2 * MOST:,} exits (theirs: {MOST:,})"
    yield row(what, "MB", found, Aim("ratio", "<=", 1.05), Aim("ours", "<=", 8.0))


def _size(exits: int) -> float:
    """MB of a history, without the names of its exits, which the policy has too."""
    clock = [0.0]
    names = [f"exit-{number}" for number in range(exits)]
    routes = [_route(name) for name in names]
    tracemalloc.start()
    try:
        history = History(lambda: clock[0], lambda: datetime.fromtimestamp(clock[0], UTC))
        for minute in range(MINUTES):
            clock[0] = 60.0 * minute
            for name, route in zip(names, routes, strict=True):
                _use(history, name, route, hop=0.001 * (minute + 1))
        history.exits()
        return tracemalloc.get_traced_memory()[0] / _MB
    finally:
        tracemalloc.stop()


def _use(history: History, name: str, route: Route, hop: float) -> None:
    """Let all be counted that is counted of an exit."""
    history.attempted(route, Outcome("attempt", "192.0.2.1", hop=hop))
    history.carried(name, 1000, 100_000)
    flow = LiveEvent(
        at=0.0, flow_id="f", client="192.0.2.9", kind="http", host="x.test", port=443, use="proxy"
    )
    flow.proxy, flow.duration_ms = name, 12.0
    history.ended(flow)
    flow.code, flow.reason = "EGRESS_REFUSED", "rule"
    history.ended(flow)


def _route(name: str) -> Route:
    proxy = Proxy(name=name, type="socks5", host="192.0.2.1", port=1080)
    return Route(Choice(Egress(proxy)), Pin(("192.0.2.1",), 4), _TARGET)
