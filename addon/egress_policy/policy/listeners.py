"""Which places are listeners of this process: no flow may reach one, by any name or route. Pure.

Listeners and the addresses of the machine change while the process runs, so each check asks for
both anew, through callables.
"""

from collections.abc import Callable, Iterable, Sequence

from ..errors import Reason
from ..model.decision import Place, Refusal, Route
from ..model.host import canonical_ip
from ..sentence import Sentence
from .fail_closed import refusing

LOOP = refusing(Sentence("loop", "This is a listener of mitmproxy itself, which no flow may reach"))
MAY_LOOP = Sentence(
    "may_loop",
    "mitmproxy listens at this port and the proxy is on the same machine, so that this name may "
    "lead back to mitmproxy; refusing to egress. With target_family the name is resolved here, "
    "which settles it",
)


def _is_literal(host: str) -> bool:
    return canonical_ip(host) is not None


def _none() -> Sequence[Place]:
    return ()


class Listeners:
    """The places where this process listens.

    ``of_api`` are those of the management API, ``of_proxy`` says which are mitmproxy's own.
    ``is_own_host`` says whether a canonical host is this machine, and ``known`` which addresses a
    name has, as far as can be told without asking anybody.
    """

    def __init__(
        self,
        is_own_host: Callable[[str], bool],
        known: Callable[[str], Iterable[str]] = lambda _: (),
    ) -> None:
        self._is_own_host = is_own_host
        self._known = known
        self.of_api: tuple[Place, ...] = ()
        self.of_proxy: Callable[[], Sequence[Place]] = _none

    def at_port(self, port: int) -> bool:
        """Whether this process listens at the port, at any address of the machine.

        The address does not count: an exit, a redirection or a second address may lead there.
        """
        for place in self.of_proxy():  # each flow asks: a generator would take longer
            if place[1] == port:
                return True
        return any(place[1] == port for place in self.of_api)

    def reached_by(self, host: str, port: int) -> bool:
        """Whether a canonical host and a port lead to a listener, as far as is known."""
        return self.at_port(port) and self.is_own(host)

    def is_own(self, host: str) -> bool:
        """Whether a canonical host is this machine, as far as is known."""
        return any(map(self._is_own_host, (host, *self._known(host))))

    def may_be_reached_by(self, hop: Iterable[str], host: str, port: int) -> bool:
        """Whether an exit at one of the addresses ``hop`` may lead a name to a listener.

        An exit on this machine may resolve the name as this machine does, or in its own way. Only
        DNS could tell, and asking here would reveal a name that only the exit is to look up.
        """
        return self.at_port(port) and not _is_literal(host) and any(map(self.is_own, hop))

    def loop(self, route: Route, place: Place) -> Refusal | None:
        """Why nothing must go to ``place`` on this route: it, or the target, is a listener of this
        process."""
        if any(self.reached_by(*each) for each in (place, route.target)):
            return route.refusal(Reason.LOOP, LOOP)
        if route.egress.proxy and self.may_be_reached_by((place[0],), *route.target):
            return route.refusal(Reason.LOOP, MAY_LOOP)
        return None

    def loop_back(self, route: Route, peer: Place, local: str) -> Refusal | None:
        """Why a connection from the address ``local`` to ``peer`` must not be used: it has reached
        this process, or would ask an exit for it."""
        if peer[0] == local and self.at_port(peer[1]):
            return route.refusal(Reason.LOOP, LOOP)
        return self.loop(route, peer)
