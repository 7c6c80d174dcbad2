"""Exits for every face: lists of them, who shares one, warnings, and what programs saw of them.

``known_exits.py`` has what is known. Addresses of exits are in lists alone: warnings and logs name
none.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Final, get_args

from ..errors import InvalidEntry, NotFound
from ..log import get_logger
from ..model.proxy import ExitFamily, Proxy
from ..model.words import count
from ..policy.exits import (
    ExitUser,
    Sharing,
    contradicted,
    parse_exit_address,
    shared_exits,
    verdict,
)
from ..sentence import Sentence
from .exit_views import (
    ExitsStatus,
    ExitUserView,
    ProxyExits,
    Pushed,
    SeenExit,
    SharedExits,
    SharingView,
)
from .in_force import PolicyInForce
from .known_exits import KnownExits
from .views import Page, PageInfo

logger = get_logger(__name__)

_AHEAD: Final = 60.0
"""Seconds by which the clock of a program that pushes may be ahead."""
_WARNINGS: Final = 100
_FAMILIES: Final[tuple[ExitFamily, ...]] = get_args(ExitFamily)


class Exits:
    """For the loop only. ``name_of`` finds the name of a proxy by its id or name, or raises
    ``NotFound``. ``clock`` gives monotonic seconds, and is that of ``known``."""

    def __init__(
        self,
        in_force: PolicyInForce,
        known: KnownExits,
        name_of: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_force, self._known, self._name_of = in_force, known, name_of
        self._clock = clock
        self._shared: set[str] = set()
        """What was logged about sharing."""

    async def list(
        self, *, proxy: str = "", problem: bool = False, limit: int = 50, offset: int = 0
    ) -> Page[ProxyExits]:
        """The exits of the proxies of the policy, or of one by id or name; with ``problem`` of
        those in use whose exit is not as expected. Raises ``NotFound``."""
        await self._known.load()
        if proxy:
            return _page([self.of(self.find(proxy))], 1, limit, offset)
        proxies: Collection[Proxy] = self._in_force.snapshot.proxies.values()
        if problem:
            proxies = [one for one in self._expecting() if self._known.problem(one)]
        shown = islice(proxies, offset, offset + limit)
        return _page([self.of(one) for one in shown], len(proxies), limit, offset)

    def of(self, proxy: Proxy) -> ProxyExits:
        """What is known of a proxy's exits."""
        now, found = self._clock(), self._known.sightings_of(proxy)
        seen = [found.of(family) for family in _FAMILIES] if found else []
        return ProxyExits(
            proxy=proxy.name,
            exit_family=proxy.exit_family,
            exit_in=tuple(map(str, proxy.exit_in)),
            exit_enforce=proxy.exit_enforce,
            problem=self._known.problem(proxy),
            exits=tuple(
                SeenExit(
                    family=one[-1].family,
                    verdict=verdict(one, now),
                    address=one[-1].address,
                    at=self._known.time_of(one[-1]),
                    source=one[-1].source,
                    observations=len(one),
                )
                for one in seen
                if one
            ),
        )

    def find(self, key: str) -> Proxy:
        """The proxy of the policy with this id or name. Raises ``NotFound``."""
        name = self._name_of(key)
        proxy = self._in_force.snapshot.proxies.get(name)
        if proxy is None:
            raise NotFound(
                Sentence(
                    "proxy_cannot_be_used",
                    "Proxy {name} cannot be used: `proxies show` says why",
                    name=name,
                )
            )
        return proxy

    async def shared(self) -> SharedExits:
        """Which assignments of a group leave by one exit."""
        await self._known.load()
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
        problems = (self._known.problem(proxy) for proxy in self._expecting())
        found = [problem for problem in problems if problem]
        found += map(_sharing_in_words, self._sharing())
        if (more := len(found) - _WARNINGS) > 0:
            rest = count(more, "further warning", "further warnings")
            listed = "{rest} about exits: `egress-policy exits list`"
            further = Sentence("more_exit_warnings", listed, rest=rest, count=more)
            return (*found[:_WARNINGS], further)
        return tuple(found)

    def status(self) -> ExitsStatus:
        """How many stable exits have changed, and how many are not what a person expects."""
        now = self._clock()
        seen = ((proxy, self._known.sightings_of(proxy)) for proxy in self._expecting())
        others = sum(bool(found and contradicted(proxy, found, now)) for proxy, found in seen)
        return ExitsStatus(changes=self._known.changes, contradicted=others)

    def say_sharing(self) -> None:
        """Log each case of sharing once for as long as it lasts."""
        said = set(map(_sharing_in_words, self._sharing()))
        for sentence in sorted(said - self._shared):
            logger.warning(f"Egress: {sentence}")
        self._shared = said

    # -- what programs saw

    async def push(self, observations: Sequence[Pushed]) -> int:
        """Take in what a program saw, all of it or nothing; how many that were. Raises
        ``NotFound`` and ``InvalidEntry``."""
        await self._known.load()
        taken = [self._checked(number, one) for number, one in enumerate(observations)]
        self._known.seen_all(taken, "push")
        return len(taken)

    # -- inside

    def _sharing(self) -> Sequence[Sharing]:
        proxies = self._in_force.snapshot.proxies
        return shared_exits(
            self._users(), lambda name: self._known.sightings_of(proxies[name]), self._clock()
        )

    def _users(self) -> Iterable[ExitUser]:
        for one in self._in_force.stored.assignments:
            proxy = self._in_force.snapshot.proxies.get(str(one.rule.use))
            if one.group and proxy and proxy.status == "active":
                yield ExitUser(one.group, one.label, proxy.name)

    def _expecting(self) -> Iterable[Proxy]:
        for proxy in self._in_force.snapshot.proxies.values():
            if proxy.status == "active" and (
                proxy.exit_enforce or proxy.exit_family or proxy.exit_in
            ):
                yield proxy

    def _checked(self, number: int, one: Pushed) -> tuple[Proxy, str, float]:
        place = f"observations.{number}"
        try:
            proxy = self.find(one.proxy)
        except NotFound as error:
            raise NotFound(f"{place}.proxy: there is no proxy {one.proxy!r}") from error
        if (address := parse_exit_address(one.address)) is None:
            raise InvalidEntry(f"{place}.address: an IP address is expected", f"{place}.address")
        age = 0.0 if one.at is None else self._known.age_of(one.at)
        if age is None or age < -_AHEAD:
            why = "a time that has passed is expected, such as 2026-01-31T23:59:59Z"
            raise InvalidEntry(f"{place}.at: {why}", f"{place}.at")
        return proxy, address, max(0.0, age)


def _sharing_in_words(sharing: Sharing) -> str:
    names = ", ".join(dict.fromkeys(user.proxy for user in sharing.users))
    if not sharing.decided:
        unknown = "Group {group}: whether it shares the rotating exits of {names} is unknown"
        return Sentence("exit_sharing_unknown", unknown, group=sharing.group, names=names)
    number = len(sharing.users)
    return Sentence(
        "exit_shared",
        "Group {group}: {users} by {names} leave by one exit",
        group=sharing.group,
        users=count(number, "assignment", "assignments"),
        count=number,
        names=names,
    )


def _page(items: Sequence[ProxyExits], total: int, limit: int, offset: int) -> Page[ProxyExits]:
    info = PageInfo(limit=limit, offset=offset, total=total)
    return Page(items=tuple(items), page=info)
