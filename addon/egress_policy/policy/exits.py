"""The exits of proxies: the addresses that targets see, which are not those that are dialled. Pure.

Observations go in, and what they amount to comes out: a verdict, a contradiction of what a person
expects, a refusal, a change, two users behind one address. Times are seconds on a clock that never
goes back, and the caller gives the present as ``now``.

A look that failed is no observation. What is said for people names no address, because it goes
into logs.
"""

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network, ip_address
from itertools import takewhile
from operator import attrgetter
from typing import Final, Literal, get_args

from ..errors import Reason
from ..model.decision import Refusal
from ..model.family import family_label
from ..model.host import canonical_ip, detect_ip_literal_family, is_unspecified
from ..model.proxy import ExitFamily, Proxy
from ..sentence import Sentence
from .fail_closed import fail_closed, reason_in, text_of

Source = Literal["test", "echo", "push"]
"""Who looked: a test or check of the proxy, a look through the echo of the settings, a program that
told the API."""
Verdict = Literal["stable", "rotating", "unknown", "stale"]

STABLE_COUNT: Final = 3
STABLE_SPAN: Final = 600.0
"""That many equal addresses in a row, over so many seconds, make an exit stable."""
ROTATING_SPAN: Final = 1800.0
"""Two addresses within so many seconds make an exit rotating."""
STALE_AFTER: Final = 86_400.0
"""Seconds after which the latest observation says nothing any more."""
FRESH: Final = 900.0
"""Seconds for which an observation lets a proxy with ``exit_enforce`` be used."""
KEPT: Final = 32
"""Observations that are kept of a proxy in each exit family."""
_SPACING: Final = 60.0
"""Equal addresses that come faster are kept as the first and the latest of so many seconds: 32 of
them would otherwise span less time than a verdict needs."""
_ONE_EXIT: Final = 64
"""Bits of an IPv6 address that identify one customer (RFC 6177)."""
_FAMILIES: Final[tuple[ExitFamily, ...]] = get_args(ExitFamily)


@dataclass(frozen=True, slots=True)
class Observation:
    """A target saw ``address``, a canonical IP literal, at the time ``at``.

    ``restored``: it was made before this process began, and the proxy may have had other
    credentials then, by which many proxies choose their exits.
    """

    address: str
    at: float
    source: Source
    restored: bool = False

    @property
    def family(self) -> ExitFamily:
        return "ipv6" if detect_ip_literal_family(self.address) == 6 else "ipv4"

    @property
    def exit(self) -> str:
        """What targets take for one user: an IPv4 address, or the /64 of an IPv6 address."""
        if self.family == "ipv4":
            return self.address
        return str(IPv6Network((self.address, _ONE_EXIT), strict=False))


def parse_exit_address(text: str) -> str | None:
    """The canonical literal of an address that a target can see; ``None`` for other text.

    An IPv4-mapped IPv6 address is IPv4. An address with a scope id and the unspecified address are
    seen by no target.
    """
    literal = canonical_ip(text)
    if literal is None or "%" in literal or is_unspecified(literal):
        return None
    return literal


class Sightings:
    """What was seen of one proxy: in each exit family the latest observations, in order of time."""

    def __init__(self) -> None:
        self._by_family: dict[ExitFamily, list[Observation]] = {name: [] for name in _FAMILIES}

    def of(self, family: ExitFamily) -> Sequence[Observation]:
        return self._by_family[family]

    def add(self, new: Observation) -> bool:
        """Take an observation in. False where it only moves the time of the latest one on."""
        kept = self._by_family[new.family]
        if len(kept) > 1 and _moves_on(kept[-2], kept[-1], new):
            kept[-1] = new
            return False
        bisect.insort(kept, new, key=attrgetter("at"))
        del kept[:-KEPT]
        return True

    def latest(self) -> list[Observation]:
        """The latest observation of each family that has one."""
        return [kept[-1] for kept in self._by_family.values() if kept]


def _moves_on(before: Observation, last: Observation, new: Observation) -> bool:
    same = before.address == last.address == new.address
    return same and last.at <= new.at < before.at + _SPACING


# -- verdicts


def verdict(seen: Sequence[Observation], now: float) -> Verdict:
    """What the observations of one proxy in one family, in order of time, amount to."""
    if not seen:
        return "unknown"
    last = seen[-1]
    if now - last.at > STALE_AFTER:
        return "stale"
    if any(one.address != last.address for one in _latest_within(seen, ROTATING_SPAN)):
        return "rotating"
    run = list(takewhile(lambda one: one.address == last.address, reversed(seen)))
    is_stable = len(run) >= STABLE_COUNT and last.at - run[-1].at >= STABLE_SPAN
    return "stable" if is_stable else "unknown"


def changed_from(seen: Sequence[Observation], new: Observation) -> Observation | None:
    """The last observation of an exit that was stable until ``new`` was made."""
    if seen and seen[-1].at <= new.at and seen[-1].address != new.address:
        return seen[-1] if verdict(seen, seen[-1].at) == "stable" else None
    return None


def _latest_within(seen: Sequence[Observation], seconds: float) -> Iterable[Observation]:
    """Those made up to so many seconds before the last one."""
    return takewhile(lambda one: seen[-1].at - one.at <= seconds, reversed(seen))


# -- what a person expects


def contradiction(proxy: Proxy, seen: Observation) -> str | None:
    """Why an observation is not what ``exit_family`` and ``exit_in`` of a proxy say."""
    if proxy.exit_family not in (None, seen.family):
        label = family_label(6 if seen.family == "ipv6" else 4)
        return Sentence(
            "exit_family_differs",
            "a target saw an {label} address, and exit_family is {family}",
            label=label,
            family=proxy.exit_family or "",
        )
    address = ip_address(seen.address)
    if proxy.exit_in and not any(address in network for network in proxy.exit_in):
        return Sentence("exit_in_differs", "a target saw an address that is not in exit_in")
    return None


def contradicted(proxy: Proxy, sightings: Sightings, now: float) -> str | None:
    """The contradiction that holds at present; ``None`` without one."""
    return _contradiction(proxy, _that_count(proxy, sightings, now))


def refusal(proxy: Proxy, sightings: Sightings | None, now: float) -> Refusal | None:
    """Why a proxy with ``exit_enforce`` must not be used at present.

    It may be used while its latest observation is younger than ``FRESH`` and matches. Where
    ``exit_family`` leaves both families open, neither may contradict.
    """
    counting = _that_count(proxy, sightings, now) if sightings else []
    fresh = _fresh(counting, now)
    why = _contradiction(proxy, fresh or counting)
    if why is None and fresh:
        return None
    unseen = "nobody has seen its exit in the last {minutes} min"
    if why is None:
        what = Sentence("exit_unseen", unseen, minutes=round(FRESH / 60))
        return _refused(proxy, Reason.EXIT_UNVERIFIED, what)
    return _refused(proxy, Reason.EXIT_MISMATCH, why)


def mismatch(proxy: Proxy, sightings: Sightings | None, now: float) -> Refusal | None:
    """Why even an open connection by a proxy with ``exit_enforce`` must end: a target has seen of
    late that its exit is another one. Neither time alone nor what was restored leads to that."""
    counting = _that_count(proxy, sightings, now) if sightings else []
    why = _contradiction(proxy, _fresh(counting, now))
    return _refused(proxy, Reason.EXIT_MISMATCH, why) if why else None


def _fresh(counting: Iterable[Observation], now: float) -> Sequence[Observation]:
    """The observations that may verify an exit."""
    return [one for one in counting if now - one.at < FRESH and not one.restored]


def _refused(proxy: Proxy, reason: Reason, what: str) -> Refusal:
    detail = fail_closed(Sentence("of_proxy", "Proxy {name}: {what}", name=proxy.name, what=what))
    return Refusal(reason, detail, proxy.name, proxy.family, proxy.host, fails_over=True)


def clause(proxy: str, sentence: str) -> str:
    """A sentence about the exit of a proxy, for a place that names the proxy itself."""
    said = reason_in(sentence)
    if isinstance(said, Sentence) and said.code == "of_proxy":
        return text_of(said, "what")
    return said.removeprefix(f"Proxy {proxy}: ").removesuffix("; refusing to egress (fail-closed)")


def same_until(sightings: Sightings | None, now: float) -> float:
    """The moment at which time alone may change what ``refusal`` says."""
    latest = sightings.latest() if sightings else ()
    moments = (one.at + age for one in latest for age in (FRESH, STALE_AFTER))
    return min((moment for moment in moments if moment > now), default=float("inf"))


def _that_count(proxy: Proxy, sightings: Sightings, now: float) -> Sequence[Observation]:
    """The observations by which the exit is judged: the latest of each family, or the latest of all
    where one family is expected. None of them is stale."""
    latest = [one for one in sightings.latest() if now - one.at <= STALE_AFTER]
    if proxy.exit_family and latest:
        return [max(latest, key=attrgetter("at"))]
    return latest


def _contradiction(proxy: Proxy, observations: Iterable[Observation]) -> str | None:
    found = (contradiction(proxy, one) for one in observations)
    return next((why for why in found if why), None)


# -- sharing


@dataclass(frozen=True, slots=True)
class ExitUser:
    """Who must not be seen together with others of its ``group``, and the proxy it leaves by."""

    group: str
    label: str
    proxy: str


@dataclass(frozen=True, slots=True)
class Sharing:
    """``users`` of one group leave by one ``exit``. It is empty where they use one proxy whose exit
    is not known.

    Where it is not ``decided`` the exit rotates: nobody can tell whom a target sees together.
    """

    group: str
    users: tuple[ExitUser, ...]
    decided: bool = True
    exit: str = ""


def shared_exits(
    users: Iterable[ExitUser], sightings_of: Callable[[str], Sightings | None], now: float
) -> list[Sharing]:
    """Which users of a group leave by one exit. ``sightings_of`` knows proxies by name."""
    groups: defaultdict[str, list[ExitUser]] = defaultdict(list)
    for user in users:
        groups[user.group].append(user)
    found: list[Sharing] = []
    for group, members in groups.items():
        if len(members) > 1:
            found += _shared_in(group, members, sightings_of, now)
    return found


def _shared_in(
    group: str,
    users: Sequence[ExitUser],
    sightings_of: Callable[[str], Sightings | None],
    now: float,
) -> Iterable[Sharing]:
    by_exit: defaultdict[tuple[str, str], list[ExitUser]] = defaultdict(list)
    rotating: list[ExitUser] = []
    known: dict[str, frozenset[str] | None] = {}
    for user in users:
        if user.proxy not in known:
            known[user.proxy] = _exits(sightings_of(user.proxy), now)
        exits = known[user.proxy]
        if exits is None:
            rotating.append(user)
            continue
        for place in exits or ("",):
            by_exit[place, "" if place else user.proxy].append(user)
    for (place, _), together in by_exit.items():
        if len(together) > 1:
            yield Sharing(group, tuple(together), exit=place)
    if rotating:
        yield Sharing(group, tuple(rotating), decided=False)


def _exits(sightings: Sightings | None, now: float) -> frozenset[str] | None:
    """The exits of a proxy that are known at present; ``None`` where they rotate."""
    exits: set[str] = set()
    for family in _FAMILIES:
        seen = sightings.of(family) if sightings else ()
        if not seen or now - seen[-1].at > STALE_AFTER:
            continue
        taken = {one.exit for one in _latest_within(seen, ROTATING_SPAN)}
        if len(taken) > 1:
            return None
        exits |= taken
    return frozenset(exits)
