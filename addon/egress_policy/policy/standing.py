"""How each egress stands now: its circuit, its limit and its exit, as picks and refusals ask."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from ..errors import Reason
from ..model.decision import Egress, Refusal, Route
from ..model.words import count
from ..sentence import Sentence
from .fail_closed import fail_closed
from .health import Health
from .occupancy import Occupancy


def _expected(_: Egress) -> Refusal | None:
    return None


class Standing:
    """A ``Condition`` made of its parts. ``exit_refusal`` says why an exit is not the expected
    one. The last ``kept`` returns are there for strategies that did not ask yet."""

    def __init__(self, health: Health, kept: int = 4096) -> None:
        self.health = health
        health.on_return = self.came_back
        self.occupancy = Occupancy()
        self.exit_refusal: Callable[[Egress], Refusal | None] = _expected
        self._returns: deque[str] = deque(maxlen=kept)
        self._position = 0

    def is_available(self, egress: Egress) -> bool:
        return (
            self.health.is_available(egress)
            and not self.occupancy.is_full(egress)
            and self.exit_refusal(egress) is None
        )

    def refusal(self, egress: Egress) -> Refusal | None:
        if circuit := self.health.refusal(egress):
            return circuit
        if self.occupancy.is_full(egress):
            return full(egress)
        return self.exit_refusal(egress)

    def active(self, egress: Egress) -> int:
        return self.occupancy.active(egress)

    def cost(self, egress: Egress) -> float | None:
        return self.health.cost(egress)

    def returned(self, since: int) -> tuple[int, Iterable[str] | None]:
        self.health.wake()
        new = self._position - since
        if not new:
            return since, ()
        if new > len(self._returns):
            return self._position, None  # too many: nobody knows which
        return self._position, islice(self._returns, len(self._returns) - new, None)

    def came_back(self, hop_key: str) -> None:
        """A proxy may be available again: its circuit, its limit or its exit allow it."""
        self._returns.append(hop_key)
        self._position += 1

    def enter(self, route: Route) -> bool:
        """Count a dial on a route; false if its proxy has no room for it."""
        return self.occupancy.enter(route)

    def leave(self, route: Route) -> None:
        """What ``enter`` counted has ended."""
        if self.occupancy.leave(route):
            self.came_back(route.egress.hop_key)


def full(egress: Egress) -> Refusal:
    """The refusal of a proxy that has as many connections as its limit allows."""
    limit = egress.proxy.max_connections if egress.proxy else 0
    why = Sentence(
        "proxy_full",
        "Proxy {name} has {held}, as many as its max_connections allows",
        name=egress.name,
        held=count(limit, "connection", "connections"),
        count=limit,
    )
    host = egress.proxy.host if egress.proxy else ""
    return Refusal(
        Reason.LIMIT_REACHED,
        fail_closed(why),
        egress.name,
        egress.family,
        host,
        fails_over=True,
        retry_after=1.0,
    )
