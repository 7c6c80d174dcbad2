"""What faces show of the exits of proxies. The API answers with addresses of exits; every text that
may go into a log names none."""

from typing import NamedTuple

from ..model.proxy import ExitFamily
from ..policy.exits import Source, Verdict, clause
from .views import Spoken, View


class SeenExit(View):
    """What is known of an exit in one family. ``at`` is the time of the latest observation, which
    saw ``address``."""

    family: ExitFamily
    verdict: Verdict
    address: str
    at: str
    source: Source
    observations: int


class ProxyExits(Spoken):
    """The exits of a proxy beside what a person expects. ``problem`` says why they are not as
    expected, or why a proxy with ``exit_enforce`` refuses; it names no address."""

    proxy: str
    exit_family: ExitFamily | None = None
    exit_in: tuple[str, ...] = ()
    exit_enforce: bool = False
    problem: str = ""
    exits: tuple[SeenExit, ...] = ()

    @property
    def why(self) -> str:
        """The ``problem`` for a place that names the proxy itself."""
        return clause(self.proxy, self.problem)


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


class ExitsStatus(View):
    """Stable exits that have changed since the start, and proxies with another exit than
    expected."""

    changes: int = 0
    contradicted: int = 0


class Look(Spoken):
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
