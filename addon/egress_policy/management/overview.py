"""The overview: what flows did in the last hour, and how each exit does.

Made from ``history.py``, with what is known of the proxies of the policy beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

from ..errors import InvalidEntry, NotFound
from ..model.decision import Egress
from ..model.family import ProxyFamily
from ..model.rule import DIRECT, OTHER
from ..model.words import iso_time
from ..policy.standing import Standing
from .history import NOTHING, History, Past
from .in_force import PolicyInForce
from .known_exits import KnownExits
from .states import State, States
from .views import PageInfo, Spoken, View

_SERIES: Final = 8
_DIRECTLY: Final = tuple(Egress(None, family) for family in get_args(ProxyFamily))
SORTS: Final = (
    "exit", "flows", "refused", "success_rate", "hop", "traffic", "active", "last_used",
)  # fmt: skip


class Now(View):
    """``per_second``: flows that ended a second, over the last ten. ``active``: open connections
    to exits."""

    per_second: float
    active: int


class Series(View):
    """The flows that left by one exit, minute by minute."""

    exit: str
    flows: tuple[int, ...]


class ReasonCount(View):
    """How many flows were refused for one reason."""

    code: str
    reason: str
    count: int


class HopView(View):
    """What it took to reach a proxy whatever the target is, in ms: half of the attempts, and 95 %
    of them, took no longer. ``None`` where no proxy was reached."""

    p50_ms: float | None
    p95_ms: float | None


class BytesView(View):
    """Bytes on the wire to exits and from them, with TLS and handshakes, but without TCP's own."""

    up: int
    down: int


class ExitHistory(Spoken):
    """How one exit did. ``id`` is that of the proxy, ``None`` for another exit, and so are
    ``state`` and ``why``, which say how the proxy fares now.

    ``flows`` left by it, ``refused`` were to leave by it. ``failed`` counts attempts that failed,
    perhaps by its fault; ``success_rate`` is the share of flows among flows and such attempts,
    ``None`` without any, and for ``direct``. ``hop_ms`` has the mean time of each minute to reach
    it, ``bytes`` what it carried both ways. ``address`` is the exit address that was seen last,
    ``address_age_s`` how many seconds ago.
    """

    exit: str
    id: str | None
    state: State | None
    why: str
    flows: int
    refused: int
    failed: int
    success_rate: float | None
    hop_ms: tuple[float | None, ...]
    bytes: tuple[int, ...]
    up: int
    down: int
    active: int
    address: str | None
    address_age_s: float | None
    last_used: str | None


class ExitHistories(View):
    items: tuple[ExitHistory, ...]
    page: PageInfo


class Overview(View):
    """The last 60 minutes. ``minutes`` says when each began, the oldest first; lists of numbers
    have one for each of them, and the last minute is not over.

    ``series`` has the exits with the most flows; the others are one, called ``(other)``.
    """

    now: Now
    minutes: tuple[str, ...]
    series: tuple[Series, ...]
    refused: tuple[int, ...]
    reasons: tuple[ReasonCount, ...]
    hop: HopView
    bytes: BytesView
    exits: ExitHistories


class Overviews:
    """For the loop only. ``id_of`` finds the id of a proxy by its name, or raises ``NotFound``."""

    def __init__(
        self,
        history: History,
        in_force: PolicyInForce,
        states: States,
        standing: Standing,
        exits: KnownExits,
        id_of: Callable[[str], str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._history, self._in_force, self._states = history, in_force, states
        self._standing, self._exits, self._id_of, self._now = standing, exits, id_of, now

    async def show(
        self, *, limit: int = 50, offset: int = 0, q: str = "", sort: str = "-flows"
    ) -> Overview:
        """``limit``, ``offset``, ``q`` (a part of the name) and ``sort`` are about the exits.
        Raises ``InvalidEntry`` for an unknown ``sort``."""
        await self._exits.load()
        history, used = self._history, self._history.exits()
        names = self._sorted(self._names(used, q), used, sort)
        pasts = [*used.values()]
        p50, p95 = history.hop_ms(0.5, 0.95)
        return Overview(
            now=Now(per_second=history.per_second(), active=self._standing.occupancy.total),
            minutes=tuple(history.minutes()),
            series=_series(used),
            refused=tuple(history.refused()),
            reasons=tuple(
                ReasonCount(code=code, reason=reason, count=count)
                for code, reason, count in history.reasons()
            ),
            hop=HopView(p50_ms=p50, p95_ms=p95),
            bytes=BytesView(
                up=sum(past.total("up") for past in pasts),
                down=sum(past.total("down") for past in pasts),
            ),
            exits=ExitHistories(
                items=tuple(
                    self._exit(name, used.get(name, NOTHING))
                    for name in names[offset : offset + limit]
                ),
                page=PageInfo(limit=limit, offset=offset, total=len(names)),
            ),
        )

    def _names(self, used: Mapping[str, Past], q: str) -> list[str]:
        """All proxies of the policy, ``direct``, and what else was used; those that ``q`` is in."""
        proxies = self._in_force.snapshot.proxies
        others = (name for name in used if name not in proxies and name != DIRECT)
        wanted = q.casefold()
        return [name for name in (*proxies, DIRECT, *others) if wanted in name.casefold()]

    def _sorted(self, names: list[str], used: Mapping[str, Past], sort: str) -> Sequence[str]:
        by, reverse = sort.removeprefix("-"), sort.startswith("-")
        if by not in SORTS:
            raise InvalidEntry(f"sort must be one of {', '.join(SORTS)}", "sort")
        names.sort(key=str.casefold)
        if by == "exit":
            return names[::-1] if reverse else names
        keys = {name: self._key(by, name, past) for name, past in used.items()}
        # What has no such number comes last, whichever way it is sorted.
        known = [name for name in names if keys.get(name) is not None]
        unknown = [name for name in names if keys.get(name) is None]
        return [*sorted(known, key=lambda name: keys[name] or 0, reverse=reverse), *unknown]

    def _key(self, by: str, name: str, past: Past) -> float | None:
        if by == "success_rate":
            return None if name == DIRECT else _success(past)
        if by == "hop":
            hops = past.total("hops")
            return past.total("hop_us") / hops if hops else None
        if by == "traffic":
            return past.total("up") + past.total("down")
        if by == "active":
            return self._active(name)
        if by == "last_used":
            return past.used
        return past.total("refused" if by == "refused" else "flows")

    def _exit(self, name: str, past: Past) -> ExitHistory:
        up, down = past.listed("up"), past.listed("down")
        return ExitHistory(
            exit=name,
            **self._known(name),
            flows=past.total("flows"),
            refused=past.total("refused"),
            failed=past.total("failed"),
            success_rate=None if name == DIRECT else _success(past),
            hop_ms=tuple(
                round(spent / count / 1000, 1) if count else None
                for count, spent in zip(past.listed("hops"), past.listed("hop_us"), strict=True)
            ),
            bytes=tuple(sent + received for sent, received in zip(up, down, strict=True)),
            up=sum(up),
            down=sum(down),
            active=self._active(name),
            last_used=None if past is NOTHING else self._time_of(past),
        )

    def _known(self, name: str) -> dict[str, Any]:
        """What is known of an exit beside its history."""
        proxy = self._in_force.snapshot.proxies.get(name)
        if proxy is None:
            nothing = dict.fromkeys(("id", "state", "address", "address_age_s"))
            return {**nothing, "why": ""}
        try:
            id_ = self._id_of(name)
        except NotFound:  # the policy changed meanwhile
            id_ = None
        fares, seen = self._states.of(name), self._exits.latest(proxy)
        return {
            "id": id_,
            "state": fares.state,
            "why": fares.why,
            "said": fares.said,
            "address": seen.address if seen else None,
            "address_age_s": round(seen.age, 1) if seen else None,
        }

    def _active(self, name: str) -> int:
        if name == DIRECT:
            return sum(map(self._standing.active, _DIRECTLY))
        proxy = self._in_force.snapshot.proxies.get(name)
        return self._states.active(proxy) if proxy else 0

    def _time_of(self, past: Past) -> str:
        return iso_time(self._now() - timedelta(seconds=self._history.age(past)))


def _success(past: Past) -> float | None:
    flows, failed = past.total("flows"), past.total("failed")
    return round(flows / (flows + failed), 4) if flows + failed else None


def _series(used: Mapping[str, Past]) -> tuple[Series, ...]:
    """The exits with the most flows, and the sum of all others."""
    busy = [one for one in used.items() if one[0] != OTHER and one[1].total("flows")]
    busy.sort(key=lambda one: (-one[1].total("flows"), one[0]))
    series = [Series(exit=name, flows=tuple(past.listed("flows"))) for name, past in busy[:_SERIES]]
    others = [past.listed("flows") for _, past in busy[_SERIES:]]
    if OTHER in used:
        others.append(used[OTHER].listed("flows"))
    if any(map(any, others)):
        series.append(Series(exit=OTHER, flows=tuple(map(sum, zip(*others, strict=True)))))
    return tuple(series)
