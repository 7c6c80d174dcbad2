"""What is known about the exits of proxies: who looked, what that amounts to, and what refuses.

Observations lie in memory, for each proxy as it is edited: an edit makes its exit unknown. With a
registry they are noted in its journal too, and read back at the start. What was read back counts
for verdicts but lets no proxy with ``exit_enforce`` through: the journal does not know by which
credentials it was seen.

Addresses of exits are for the registry and the API. Logs, warnings and metrics name none.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, cast, get_args

from ..client.egress_ip import find_egress_ip
from ..client.signed_echo import EchoQuestion
from ..errors import EgressError, InvalidEntry, NotFound
from ..files.reread import Reread
from ..log import get_logger
from ..model.decision import Egress, Refusal
from ..model.family import family_label
from ..model.proxy import ExitFamily, Proxy
from ..model.target_url import TargetUrl, parse_test_url
from ..model.words import count, iso_time
from ..policy.exits import (
    FRESH,
    ExitUser,
    Observation,
    Sharing,
    Sightings,
    Source,
    Verdict,
    changed_from,
    contradicted,
    parse_exit_address,
    refusal,
    shared_exits,
    verdict,
)
from .echo import read_echo_key
from .fingerprint import fingerprint
from .in_force import PolicyInForce
from .probes import Probes
from .views import Page, PageInfo, View

logger = get_logger(__name__)

REMEMBERED: Final = 20_000
"""Proxies whose exits are kept in memory."""
LOOK_AGAIN: Final = FRESH / 2
"""Seconds after which a proxy with ``exit_enforce`` is looked at again."""
_ROUND: Final = 20.0
"""Seconds between two rounds of looks at those that are due."""
_AHEAD: Final = 60.0
"""Seconds by which the clock of a program that pushes may be ahead."""
_WARNINGS: Final = 100
_FAMILIES: Final[tuple[ExitFamily, ...]] = get_args(ExitFamily)
_NO_ECHO: Final = (
    "No echo is set that could be asked: `egress-policy settings --set-echo-ipv4 URL` sets one, "
    "`egress-policy echo` runs one of your own"
)


class ExitJournal(Protocol):
    """Where observations outlive the process; a row has the columns of ``exit_observations``."""

    def add_observations(self, rows: Sequence[Mapping[str, Any]], /) -> None: ...
    def observations(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class ExitEvent:
    """Something happened to the exit of a proxy. ``at`` is in seconds on the monotonic clock.

    ``why`` names no address, ``before`` and ``after`` do.
    """

    at: float
    proxy: str
    kind: Literal["exit-changed", "exit-contradicted", "exit-expected"]
    why: str
    before: str = ""
    after: str = ""


# -- what faces show


class SeenExit(View):
    """What is known of an exit in one family. ``at`` is the time of the latest observation, which
    saw ``address``."""

    family: ExitFamily
    verdict: Verdict
    address: str
    at: str
    source: Source
    observations: int


class ProxyExits(View):
    """The exits of a proxy beside what a person expects. ``problem`` says why they are not as
    expected, or why a proxy with ``exit_enforce`` refuses; it names no address."""

    proxy: str
    exit_family: ExitFamily | None = None
    exit_in: tuple[str, ...] = ()
    exit_enforce: bool = False
    problem: str = ""
    exits: tuple[SeenExit, ...] = ()


class ExitUserView(View):
    """An assignment, as ``scope:id``, and the proxy it leaves by."""

    assignment: str
    proxy: str


class SharingView(View):
    """Assignments of one group that leave by one ``exit``: an IPv4 address or an IPv6 /64, empty
    where it is not known. Where this is not ``decided`` the exit of each of them rotates."""

    group: str
    decided: bool
    exit: str = ""
    users: tuple[ExitUserView, ...]


class SharedExits(View):
    items: tuple[SharingView, ...]


class Look(View):
    """One look at the exit of a proxy by the echo of a family. ``detail`` says why it failed."""

    proxy: str
    family: ExitFamily
    ok: bool
    address: str | None = None
    detail: str = ""


class Looks(View):
    items: tuple[Look, ...]


class Pushed(NamedTuple):
    """An observation that a program made. ``proxy`` is an id or name, ``at`` ISO 8601 or ``None``
    for now."""

    proxy: str
    address: str
    at: str | None = None


class _Seen(NamedTuple):
    proxy: Proxy
    sightings: Sightings


class Exits:
    """For the loop only. ``clock`` gives monotonic seconds, ``now`` the time for people.

    ``journal`` finds that of the registry, ``on_event`` is told what happens.
    """

    def __init__(
        self,
        in_force: PolicyInForce,
        probes: Probes,
        journal: Callable[[], ExitJournal | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._in_force, self._probes, self._journal = in_force, probes, journal
        self._clock, self._now = clock, now
        self.on_event: Callable[[ExitEvent], None] = lambda _: None
        self.changes = 0
        """How many stable exits have changed since the start."""
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        """By ``Egress.hop_key``."""
        self._contradicted: dict[str, str] = {}
        """What was said last about proxies that are not as expected, by ``Egress.hop_key``."""
        self._sharing_said: set[str] = set()
        self._key: Reread[bytes | None] | None = None
        self._loaded: ExitJournal | None = None
        self._keeping: asyncio.Task[None] | None = None

    # -- life cycle

    def use_key(self, path: Path | None) -> None:
        """Check answers of the echo with the key in this file, where it exists."""
        self._key = Reread(path, read_echo_key) if path else None

    def start(self) -> None:
        """Read back what was seen before, and look at proxies with ``exit_enforce`` from now on."""
        self._keeping = asyncio.get_running_loop().create_task(
            self._keep_fresh(), name="egress exits"
        )

    def stop(self) -> None:
        keeping, self._keeping = self._keeping, None
        if keeping:
            keeping.cancel()

    async def load(self) -> None:
        """Read back what the journal of the registry has, once for each registry."""
        journal = self._journal()
        if journal is None or journal is self._loaded:
            return
        self._loaded = journal
        try:
            rows = await asyncio.to_thread(journal.observations)
        except EgressError as error:
            logger.warning(f"Egress: earlier observations of exits cannot be read: {error}")
            return
        known = {fingerprint(proxy): proxy for proxy in self._in_force.policy.proxies}
        for row in rows:
            proxy = known.get(row["fingerprint"])
            address, age = parse_exit_address(row["address"]), self._age(row["at"])
            if proxy and address and age is not None and age >= 0:
                at, source = self._clock() - age, cast(Source, row["source"])
                self._of(proxy).sightings.add(Observation(address, at, source, restored=True))

    # -- what refuses

    def exit_refusal(self, egress: Egress) -> Refusal | None:
        """Why an egress must not be used because of its exit. It is asked for each pick, and costs
        something only where ``exit_enforce`` is set."""
        if egress.proxy is None or not egress.proxy.exit_enforce:
            return None
        seen = self._seen.get(egress.hop_key)
        return refusal(egress.proxy, seen.sightings if seen else None, self._clock())

    # -- observing

    def seen(self, proxy: Proxy, address: str, source: Source, age: float = 0.0) -> None:
        """A target saw this address of a proxy, ``age`` seconds ago."""
        new = Observation(address, self._clock() - age, source)
        sightings = self._of(proxy).sightings
        known = sightings.of(new.family)
        before = changed_from(known, new)
        is_other = not known or known[-1].exit != new.exit
        if sightings.add(new):
            self._note(proxy, new)
        if before:
            self.changes += 1
            why = f"its stable {family_label(6 if new.family == 'ipv6' else 4)} exit has changed"
            logger.warning(f"Egress: proxy {proxy.name}: {why}")
            event = ExitEvent(new.at, proxy.name, "exit-changed", why, before.address, address)
            self.on_event(event)
        self._judge(proxy, sightings, new)
        if is_other:
            self._say_sharing()

    def tested(self, proxy: Proxy, url: TargetUrl, address: str) -> None:
        """A test of a proxy was answered with this address by ``url``.

        Where the echo has a key, an answer over plain HTTP is no observation: the proxy may have
        made it up.
        """
        if url.is_tls or not self._wants_signature():
            self.seen(proxy, address, "test")

    async def push(self, observations: Sequence[Pushed]) -> int:
        """Take in what a program saw, all of it or nothing; how many that were. Raises
        ``NotFound`` and ``InvalidEntry``."""
        await self.load()
        taken = [self._checked(number, one) for number, one in enumerate(observations)]
        for proxy, address, age in taken:
            self.seen(proxy, address, "push", age)
        return len(taken)

    async def probe(self, keys: Iterable[str]) -> Looks:
        """Look at the exits of proxies, by id or name, through the echo URLs of the settings.

        Raises ``NotFound``, and ``InvalidEntry`` where no echo is set or its key cannot be used.
        """
        urls = self._echo_urls()
        if not urls:
            raise InvalidEntry(_NO_ECHO, "echo")
        key = self._key.get() if self._key else None
        await self.load()
        proxies = dict.fromkeys(map(self._find, keys))
        looks = [
            self._look(proxy, family, url, key)
            for proxy in proxies
            for family, url in urls.items()
            if family == (proxy.exit_family or proxy.target_family or family)
        ]
        return Looks(items=tuple(await asyncio.gather(*looks)))

    async def _look(
        self, proxy: Proxy, family: ExitFamily, url: TargetUrl, key: bytes | None
    ) -> Look:
        question = EchoQuestion(url, key) if key else None
        result = await self._probes.look(
            proxy, question.url if question else url, question.read if question else find_egress_ip
        )
        if address := result.egress_ip:
            self.seen(proxy, address, "echo")
            return Look(proxy=proxy.name, family=family, ok=True, address=address)
        if result.refusal:
            why = result.refusal.detail
        elif question and question.problem:
            why = f"Proxy {proxy.name}: {question.problem}"
            logger.warning(f"Egress: {why}")
        else:
            why = f"Proxy {proxy.name}: the answer ({result.status}) names no single address"
        return Look(proxy=proxy.name, family=family, ok=False, detail=why)

    # -- asking

    async def list(self, *, proxy: str = "", limit: int = 50, offset: int = 0) -> Page[ProxyExits]:
        """The exits of the proxies of the policy, or of one by id or name. Raises ``NotFound``."""
        await self.load()
        if proxy:
            return _page([self.of(self._find(proxy))], 1, limit, offset)
        proxies = self._in_force.snapshot.proxies
        shown = islice(proxies.values(), offset, offset + limit)
        return _page([self.of(one) for one in shown], len(proxies), limit, offset)

    def of(self, proxy: Proxy) -> ProxyExits:
        """What is known of a proxy's exits."""
        now, found = self._clock(), self._seen.get(_hop(proxy).hop_key)
        seen = [found.sightings.of(family) for family in _FAMILIES] if found else []
        return ProxyExits(
            proxy=proxy.name,
            exit_family=proxy.exit_family,
            exit_in=tuple(map(str, proxy.exit_in)),
            exit_enforce=proxy.exit_enforce,
            problem=self._problem(proxy),
            exits=tuple(
                SeenExit(
                    family=one[-1].family,
                    verdict=verdict(one, now),
                    address=one[-1].address,
                    at=self._time_of(one[-1]),
                    source=one[-1].source,
                    observations=len(one),
                )
                for one in seen
                if one
            ),
        )

    async def shared(self) -> SharedExits:
        """Which assignments of a group leave by one exit."""
        await self.load()
        return SharedExits(
            items=tuple(
                SharingView(
                    group=one.group,
                    decided=one.decided,
                    exit=one.exit,
                    users=tuple(
                        ExitUserView(assignment=user.label, proxy=user.proxy) for user in one.users
                    ),
                )
                for one in self._sharing()
            )
        )

    def warnings(self) -> tuple[str, ...]:
        """What is not as a person expects, one sentence each. None names an address."""
        problems = (self._problem(proxy) for proxy in self._expecting())
        found = [problem for problem in problems if problem]
        found += map(_sharing_in_words, self._sharing())
        if (more := len(found) - _WARNINGS) > 0:
            rest = count(more, "further warning", "further warnings")
            return (*found[:_WARNINGS], f"{rest} about exits: `egress-policy exits list`")
        return tuple(found)

    @property
    def contradicted(self) -> int:
        """How many proxies have another exit than a person expects."""
        now, found = self._clock(), 0
        for proxy in self._expecting():
            seen = self._seen.get(_hop(proxy).hop_key)
            found += bool(seen and contradicted(proxy, seen.sightings, now))
        return found

    # -- looking again

    def due(self) -> Sequence[Proxy]:
        """The proxies with ``exit_enforce`` whose latest observation is about to be too old. None
        where no echo is set."""
        if not self._echo_urls():
            return ()
        now = self._clock()
        return [
            proxy
            for proxy in self._in_force.snapshot.proxies.values()
            if proxy.exit_enforce and proxy.status == "active" and self._is_due(proxy, now)
        ]

    def _is_due(self, proxy: Proxy, now: float) -> bool:
        seen = self._seen.get(_hop(proxy).hop_key)
        latest = seen.sightings.latest() if seen else ()
        return all(one.restored or now - one.at >= LOOK_AGAIN for one in latest)

    async def _keep_fresh(self) -> None:
        await self.load()
        while True:
            try:
                if due := self.due():
                    await self.probe(proxy.name for proxy in due)
            except EgressError as error:  # the policy changed meanwhile, or the key is wrong
                logger.warning(f"Egress: exits cannot be looked at: {error}")
            except Exception:  # one bad round must not end all later ones
                logger.exception("Egress: a look at exits went wrong")
            await asyncio.sleep(_ROUND)

    # -- inside

    def _of(self, proxy: Proxy) -> _Seen:
        key = _hop(proxy).hop_key
        found = self._seen.setdefault(key, _Seen(proxy, Sightings()))
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            forgotten, _ = self._seen.popitem(last=False)
            self._contradicted.pop(forgotten, None)
        return found

    def _find(self, key: str) -> Proxy:
        found = self._probes.find(key)
        if not isinstance(found, Proxy):
            raise InvalidEntry(f"Proxy {found.name} cannot be used: {found.problem}", "proxy")
        return found

    def _note(self, proxy: Proxy, new: Observation) -> None:
        if journal := self._journal():
            row = {
                "proxy": proxy.name,
                "fingerprint": fingerprint(proxy),
                "family": new.family,
                "address": new.address,
                "at": self._time_of(new),
                "source": new.source,
            }
            journal.add_observations([row])

    def _judge(self, proxy: Proxy, sightings: Sightings, new: Observation) -> None:
        """Say once that an exit is not as expected, and once that it is again."""
        key, why = _hop(proxy).hop_key, contradicted(proxy, sightings, self._clock()) or ""
        if why == self._contradicted.get(key, ""):
            return
        if why:
            self._contradicted[key] = why
            logger.warning(f"Egress: proxy {proxy.name}: {why}")
            event = ExitEvent(new.at, proxy.name, "exit-contradicted", why, after=new.address)
        else:
            del self._contradicted[key]
            good = "its exit is as expected again"
            logger.info(f"Egress: proxy {proxy.name}: {good}")
            event = ExitEvent(new.at, proxy.name, "exit-expected", good, after=new.address)
        self.on_event(event)

    def _say_sharing(self) -> None:
        """Log each case of sharing once for as long as it lasts."""
        said = set(map(_sharing_in_words, self._sharing()))
        for sentence in sorted(said - self._sharing_said):
            logger.warning(f"Egress: {sentence}")
        self._sharing_said = said

    def _sharing(self) -> Sequence[Sharing]:
        proxies = self._in_force.snapshot.proxies

        def sightings_of(name: str) -> Sightings | None:
            seen = self._seen.get(_hop(proxies[name]).hop_key) if name in proxies else None
            return seen.sightings if seen else None

        return shared_exits(self._users(), sightings_of, self._clock())

    def _users(self) -> Iterable[ExitUser]:
        for one in self._in_force.stored.assignments:
            group = getattr(one, "group", "")
            if group and isinstance(one.rule.use, str):
                yield ExitUser(group, one.label, one.rule.use)

    def _expecting(self) -> Iterable[Proxy]:
        for proxy in self._in_force.snapshot.proxies.values():
            if proxy.exit_enforce or proxy.exit_family or proxy.exit_in:
                yield proxy

    def _problem(self, proxy: Proxy) -> str:
        found = self._seen.get(_hop(proxy).hop_key)
        sightings = found.sightings if found else None
        if proxy.exit_enforce:
            refused = refusal(proxy, sightings, self._clock())
            return refused.detail if refused else ""
        why = contradicted(proxy, sightings, self._clock()) if sightings else None
        return f"Proxy {proxy.name}: {why}" if why else ""

    def _wants_signature(self) -> bool:
        try:
            return bool(self._key and self._key.get())
        except InvalidEntry:
            return True

    def _echo_urls(self) -> Mapping[ExitFamily, TargetUrl]:
        settings = self._in_force.stored.settings
        urls: dict[ExitFamily, TargetUrl] = {}
        for family in _FAMILIES:
            with contextlib.suppress(InvalidEntry):  # edited by hand
                if text := settings.get(f"echo_{family}"):
                    urls[family] = parse_test_url(text)
        return urls

    def _checked(self, number: int, one: Pushed) -> tuple[Proxy, str, float]:
        place = f"observations.{number}"
        try:
            proxy = self._find(one.proxy)
        except NotFound as error:
            raise NotFound(f"{place}.proxy: there is no proxy {one.proxy!r}") from error
        if (address := parse_exit_address(one.address)) is None:
            raise InvalidEntry(f"{place}.address: an IP address is expected", f"{place}.address")
        age = 0.0 if one.at is None else self._age(one.at)
        if age is None or age < -_AHEAD:
            why = "a time that has passed is expected, such as 2026-01-31T23:59:59Z"
            raise InvalidEntry(f"{place}.at: {why}", f"{place}.at")
        return proxy, address, max(0.0, age)

    def _age(self, at: str) -> float | None:
        """Seconds since a time in ISO 8601, ``None`` for other text and without a zone."""
        try:
            return (self._now() - datetime.fromisoformat(at)).total_seconds()
        except (ValueError, TypeError):
            return None

    def _time_of(self, one: Observation) -> str:
        return iso_time(
            datetime.fromtimestamp(self._now().timestamp() - self._clock() + one.at, UTC)
        )


def _hop(proxy: Proxy) -> Egress:
    return Egress(proxy, proxy.family)


def _sharing_in_words(sharing: Sharing) -> str:
    names = ", ".join(dict.fromkeys(user.proxy for user in sharing.users))
    if not sharing.decided:
        return f"Group {sharing.group}: whether it shares the rotating exits of {names} is unknown"
    number = count(len(sharing.users), "assignment", "assignments")
    return f"Group {sharing.group}: {number} by {names} leave by one exit"


def _page(items: Sequence[ProxyExits], total: int, limit: int, offset: int) -> Page[ProxyExits]:
    info = PageInfo(limit=limit, offset=offset, total=total)
    return Page(items=tuple(items), page=info)
