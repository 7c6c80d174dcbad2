"""What happened to proxies: circuits that opened and closed, exits that changed.

The last events are kept in memory, and in the registry beside the policy, where there is one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from typing import Any, Final, Protocol

from ..model.words import iso_time
from ..policy.health import CircuitEvent
from .journal import Rows
from .views import Spoken, View

KEPT: Final = 10_000

_TEXTS: Final[Mapping[str, str]] = {
    "opened": "open since {when}: {why}",
    "limited": "left alone since {when}: {why}",
    "closed": "works again since {when}",
    "reset": "closed by a person at {when}",
    "own-network": "our own network seems to be down since {when}: {why}",
    "own-network-up": "our own network works again since {when}",
    "exit-changed": "another exit since {when}: {why}",
    "exit-contradicted": "not the expected exit since {when}: {why}",
    "exit-expected": "the expected exit again since {when}",
}
_ANY_TEXT: Final = "{kind} at {when}: {why}"


class EventView(Spoken):
    """``at`` is ISO 8601 in UTC; ``proxy`` is empty where it is about our own network. ``why`` says
    what led to it. ``text`` is a sentence without full stop, with the time of this machine's zone.
    """

    at: str
    kind: str
    proxy: str
    pool: str = ""
    why: str = ""
    text: str


class EventsView(View):
    """The newest comes first."""

    items: tuple[EventView, ...]


class EventKeeper(Protocol):
    """Keeps events where they outlive the process: a ``JournalWriter``."""

    def add_events(self, rows: Rows) -> None: ...

    async def events(self) -> list[dict[str, Any]]: ...


type _Event = tuple[str, str, str, str, str]
"""``at``, ``kind``, ``proxy``, ``pool``, ``why``: equal events are the same."""
_COLUMNS: Final = ("at", "kind", "proxy", "pool", "about")


class Events:
    """For the loop only. ``clock`` says when something happened."""

    def __init__(
        self, keeper: EventKeeper, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._keeper = keeper
        self._clock = clock
        self._all: deque[_Event] = deque()
        self._by_proxy: dict[str, deque[_Event]] = {}

    def add(self, kind: str, proxy: str, why: str = "", pool: str = "") -> None:
        """Something has happened now. ``why`` is a clause without secrets or addresses."""
        event = (iso_time(self._clock()), kind, proxy, pool, why)
        self._append(event)
        self._keeper.add_events([dict(zip(_COLUMNS, map(str, event), strict=True))])

    def circuit(self, event: CircuitEvent) -> None:
        """A circuit has changed. That a proxy may be tried again, or was in vain, is no event: with
        dead proxies it would push out all others."""
        if event.kind != "half-open" and not event.again:
            self.add(event.kind, event.egress.name if event.egress else "", event.why)

    async def recall(self) -> None:
        """Take in what the registry has: events of earlier runs and of other nodes."""
        rows = await self._keeper.events()
        stored: list[_Event] = [
            (row["at"], row["kind"], row["proxy"], row["pool"], row["about"]) for row in rows
        ]
        # Of equal ones the first stays: those in memory have their sentences.
        known = sorted(dict.fromkeys([*self._all, *stored]), key=itemgetter(0))
        self._all.clear()
        self._by_proxy.clear()
        for event in known[-KEPT:]:
            self._append(event)

    def list(self, proxy: str | None = None, limit: int = 50) -> tuple[EventView, ...]:
        """The last events, of one proxy or of all; the newest comes first."""
        events: Iterable[_Event]
        events = reversed(self._all if proxy is None else self._by_proxy.get(proxy, ()))
        now = self._clock()
        return tuple(_view(event, now) for event in islice(events, limit))

    def _append(self, event: _Event) -> None:
        self._all.append(event)
        self._by_proxy.setdefault(event[2], deque()).append(event)
        if len(self._all) > KEPT:
            oldest = self._all.popleft()
            of_proxy = self._by_proxy[oldest[2]]
            of_proxy.popleft()
            if not of_proxy:
                del self._by_proxy[oldest[2]]


def _view(event: _Event, now: datetime) -> EventView:
    at, kind, proxy, pool, why = event
    text = _TEXTS.get(kind, _ANY_TEXT if why else "{kind} at {when}")
    said = text.format(kind=kind, when=_moment(at, now), why=why)
    return EventView(at=at, kind=kind, proxy=proxy, pool=pool, why=why, text=said)


def _moment(at: str, now: datetime) -> str:
    """The time in this machine's zone, with the day unless that is today."""
    try:
        local = datetime.fromisoformat(at).astimezone()
    except ValueError:  # edited by hand
        return at
    return local.strftime("%H:%M" if local.date() == now.astimezone().date() else "%Y-%m-%d %H:%M")
