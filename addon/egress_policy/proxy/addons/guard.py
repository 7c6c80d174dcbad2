"""The guard: nothing is dialled that the policy did not mint, with or without the other addons.

It is added to the chain once and stays there when the script is reloaded, breaks or disappears.
Then no addon answers the layers' questions, and every flow is refused instead of going direct.
"""

import asyncio
import functools
import time
from collections import Counter, defaultdict
from collections.abc import Callable

from mitmproxy import connection, ctx, tls
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import server, server_hooks
from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.utils import human

from ...client.own_machine import is_own_host
from ...errors import Reason
from ...log import get_logger
from ...management.one_line import Cut
from ...model.decision import Refusal, Route
from ...model.words import count
from ...policy.exits import clause
from ...policy.fail_closed import fail_closed
from .. import log_dispatch, seams, streams
from ..dialer import GIVEN_UP, MintedServer, place_of
from ..questions import Question, ReviewRequest, ask
from ..record import write_cut
from .named import Named, find
from .select import EgressSelect

logger = get_logger(__name__)

REFUSED = "egress: this connection was not assigned by the policy (fail-closed)"
FULL = "egress: the proxy has as many connections as its max_connections allows"

OURS = (
    "egress: this client is a connection of mitmproxy itself; serving it would make an endless loop"
)
LEFT = "the client has closed its connection"
_TURNS = 8
"""Turns of the event loop after which both ends of a connection to this process are known. asyncio
needs no more from the system's connect to the hooks of either end."""


class EgressGuard(Named):
    """Refuses unminted connections, bounds the time of minted ones, and can cut them."""

    def __init__(self) -> None:
        self.closed = ""
        """The reason why nothing is let in or out; empty while the guard works."""
        self._timers: dict[MintedServer, asyncio.TimerHandle] = {}
        self._opening: set[MintedServer] = set()
        self._sources: dict[tuple[str, int], MintedServer] = {}
        self._live: dict[
            MintedServer, tuple[asyncio.Task[None], server.ConnectionHandler | None]
        ] = {}
        self.is_current: Callable[[Route], bool] = lambda _: True
        """Whether a route may still be dialled. ``EgressConfig`` sets this and the next three."""
        self.mismatch_on: Callable[[Route], Refusal | None] = lambda _: None
        """Why nothing goes on by a route: targets see another exit than its policy enforces."""
        self.enter: Callable[[Route], bool] = lambda _: True
        """Counts a dial, unless the proxy of the route has no room for another connection."""
        self.leave: Callable[[Route], None] = lambda _: None
        """A dial that was counted, or the connection that it made, has ended."""

    def load(self, loader: object) -> None:  # noqa: ARG002 (mitmproxy passes it)
        try:
            self.closed = seams.check() or ""
            if not self.closed:
                seams.install(self.decide)
                log_dispatch.take_over(ctx.master.addons)
        except Exception as error:
            self.closed = f"this mitmproxy cannot be used: {error!r}"
            logger.exception("Egress: everything is refused")

    async def client_connected(self, client: connection.Client) -> None:
        if self.closed:
            client.error = REFUSED
            return
        try:
            handler = _handler(client)
            seams.wrap(handler)
            if await self._is_ours(client):
                client.error = OURS
                logger.info(OURS, extra={"client": client.peername})
            elif _has_left(handler):
                client.error = LEFT
        except Exception:
            client.error = REFUSED
            logger.exception("Egress: cannot guard a connection; it is closed")

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """Finish server TLS first if it has begun: mitmproxy assumes that an open connection has
        finished TLS, even if ``connection_strategy`` turned lazy after it was opened."""
        if data.context.server.tls and data.context.server.connected:
            data.establish_server_tls_first = True

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        try:
            admitted = not self.closed and self._admit(data.server, data.client)
        except Exception:
            admitted = False
            logger.exception("Egress: cannot check a connection; it is refused")
        if not admitted:
            data.server.error = _why_not(data.server)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._disarm(data.server)
        if isinstance(data.server, MintedServer) and data.server.sockname:
            self._opening.discard(data.server)
            self._sources[place_of(data.server.sockname)] = data.server

    def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._forget(data.server)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._forget(data.server)

    def done(self) -> None:
        if find(EgressGuard) is not self and find(EgressSelect) is not None:
            _join(self)
            logger.warning("Egress: the guard cannot be removed while the policy is loaded")
            return
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if not self.closed:
            log_dispatch.give_back(ctx.master.addons)
            seams.restore()

    def decide(self, request: Question) -> None:
        """Pass the question to the addon that knows the policy, if it is loaded."""
        select = find(EgressSelect)
        if select is not None:
            select.decide(request)

    def cut_stale(self) -> None:
        """Cut what the policy in force no longer allows: whole connections by their egress or
        purpose, and each flow by itself."""
        self.cut(self._is_stale)
        self.cut_mismatches()
        self._cut_stale_flows()
        streams.explain_cuts()

    def _cut_stale_flows(self) -> None:
        flows: defaultdict[MintedServer, list[HttpStream]] = defaultdict(list)
        for stream, hop in streams.under_way():
            if hop in self._live and not hop.cut:
                flows[hop].append(stream)
        for hop, together in flows.items():
            stale = [stream for stream in together if not _may_go_on(stream, hop)]
            handler = self._live[hop][1]
            if len(stale) == len(together) or handler is None:
                if stale:
                    self._cut(hop)
                continue
            for stream in stale:
                write_cut(stream.flow, "policy")
                cut = functools.partial(self._cut_whole, hop)
                streams.end(handler, stream, "the egress policy changed", cut)

    def cut_mismatches(self) -> None:
        """Cut the connections by exits that are known not to be those that the policy enforces."""
        ended: Counter[tuple[str, str]] = Counter()
        for hop in list(self._live):
            if not hop.cut and (refusal := self._mismatch_on(hop)):
                self._cut(hop, "exit", refusal)
                ended[hop.route.egress.name, clause(hop.route.egress.name, refusal.detail)] += 1
        for (name, why), number in ended.items():
            cut = count(number, "open connection is cut", "open connections are cut")
            logger.warning(f"Egress: proxy {name}: {cut}: {why}")
        if ended:
            streams.explain_cuts()

    def cut(
        self,
        concerns: Callable[[Route], bool],
        by: Cut = "policy",
        why: Callable[[Route], Refusal] | None = None,
    ) -> int:
        """Cut the live connections whose route it ``concerns``. Returns how many. ``why`` gives
        the refusal of a route where the policy has not changed."""
        concerned = [hop for hop in self._live if concerns(hop.route)]
        for hop in concerned:
            self._cut(hop, by, why(hop.route) if why else None)
        if concerned:
            streams.explain_cuts()
        return len(concerned)

    def _cut_whole(self, hop: MintedServer) -> None:
        """Cut a connection of which a single flow cannot be ended."""
        self._cut(hop)
        streams.explain_cuts()

    def _cut(self, hop: MintedServer, by: Cut = "policy", why: Refusal | None = None) -> None:
        """Cut a connection, unless it is over."""
        task, handler = self._live.get(hop, (None, None))
        if task is None:
            return
        if not hop.cut:
            hop.cut, hop.cut_by, hop.cut_for = True, by, why
        if handler:
            task.add_done_callback(seams.abort(handler, hop))
        task.cancel(f"{GIVEN_UP}, it was cut")

    async def _is_ours(self, client: connection.Client) -> bool:
        """Whether a client is the other end of a connection of this process, as happens if the
        system redirects mitmproxy's own connections back to mitmproxy."""
        source, place = place_of(client.peername), place_of(client.sockname)
        if self._opening and is_own_host(source[0]):
            for _ in range(_TURNS):
                if self._other_end(source, place):
                    break
                await asyncio.sleep(0)
        return self._other_end(source, place) is not None

    def _other_end(self, source: tuple[str, int], place: tuple[str, int]) -> MintedServer | None:
        """The connection from ``source`` that leads to ``place``, or that the system redirects.

        Connections to several places can share a source, so a client on this machine may have the
        same source as a connection of this process to the machine. Only a connection that was meant
        to leave the machine was redirected.
        """
        for hop in (self._sources.get(source), *self._opening):
            if hop and hop.sockname and hop.peername and place_of(hop.sockname) == source:
                peer = place_of(hop.peername)
                if peer == place or not is_own_host(peer[0]):
                    return hop
        return None

    def _is_stale(self, route: Route) -> bool:
        try:
            return not self.is_current(route)
        except Exception:
            logger.exception("Egress: cannot check a connection; it is cut")
            return True

    def _mismatch_on(self, hop: MintedServer) -> Refusal | None:
        try:
            return self.mismatch_on(hop.route)
        except Exception:
            logger.exception("Egress: cannot check the exit of a connection; it is cut")
            return hop.route.superseded_refusal()

    def _admit(self, hop: connection.Server, client: connection.Client) -> bool:
        if not isinstance(hop, MintedServer):
            return False
        if hop.rewritten is not None:
            return False  # the dialler says so
        if hop.route.loop(place_of(hop.address or hop.minted)):
            return False  # the dialler reports it
        task = asyncio.current_task()
        if task is None or not self.is_current(hop.route):
            hop.cut = True
            return False
        if refusal := self._mismatch_on(hop):  # it was seen after the choice
            hop.cut, hop.cut_for = True, refusal
            return False
        if hop.given_up:
            return False
        if not self.enter(hop.route):
            hop.full = True
            return False
        hop.end_with(task)
        self._opening.add(hop)
        # Python keeps what it finds of a frame as long as the task runs, so ``opener`` comes last.
        handler = seams.handler_of(client) or seams.opener()
        self._live[hop] = task, handler
        task.add_done_callback(functools.partial(self._ended, handler, hop))
        if not hop.route.is_stock:  # mitmproxy has no limit of its own
            self._arm(hop, task, hop.timeout)
        return True

    def _arm(
        self, hop: MintedServer, task: asyncio.Task[None], delay: float, *, last: bool = False
    ) -> None:
        def expire() -> None:
            if hop.state is not connection.ConnectionState.CLOSED:
                return
            # mitmproxy opens five connections to an address at a time; the others wait and have no
            # start yet.
            left = hop.timeout if hop.begun is None else hop.begun + hop.timeout - time.monotonic()
            if left > 0:
                self._arm(hop, task, left)
            elif not last:  # an answer may be there that this process was too busy to see
                self._arm(hop, task, 0, last=True)
            else:
                hop.timed_out = True
                task.cancel(f"{GIVEN_UP}, no answer in time")

        self._timers[hop] = asyncio.get_running_loop().call_later(max(delay, 0.01), expire)

    def _ended(
        self, handler: server.ConnectionHandler | None, hop: MintedServer, task: asyncio.Task[None]
    ) -> None:
        """Forget a connection. Some ends have no hook and are not reported to the layers: mitmproxy
        says nothing if its task is cancelled twice, or before hooks know that the connection is
        open, and its task breaks if the peer resets the connection right after accepting it."""
        self._forget(hop)
        hop.end_with(None)  # a stored flow keeps its connection, which would keep the task
        error = None if task.cancelled() else task.exception()
        if error:
            place = human.format_address(hop.address)
            logger.info(f"egress: the connection to {place} broke: {error!r}")
        if handler and not hop.over:
            seams.tell_end(handler, hop)

    def _forget(self, server: connection.Server) -> None:
        self._disarm(server)
        if isinstance(server, MintedServer) and server in self._live:
            del self._live[server]
            self.leave(server.route)
        self._opening.discard(server)
        if server.sockname and self._sources.get(source := place_of(server.sockname)) is server:
            del self._sources[source]

    def _disarm(self, server: connection.Server) -> None:
        timer = self._timers.pop(server, None)  # type: ignore[call-overload]
        if timer:
            timer.cancel()


def by_hand(route: Route) -> Refusal:
    """The refusal of a route whose connections a person cut while one was being made."""
    what = f"The connections of egress {route.egress.name} were cut by hand"
    return route.refusal(Reason.DELETED, fail_closed(what))


def _why_not(hop: connection.Server) -> str:
    """Why a connection is not admitted."""
    if isinstance(hop, MintedServer):
        if hop.given_up:
            return GIVEN_UP
        if hop.full:
            return FULL
    return REFUSED


def _has_left(handler: server.ConnectionHandler) -> bool:
    """Whether the client left while a hook waited. mitmproxy breaks if it reads the end of a
    connection before it has noted who reads it."""
    reader = handler.transports[handler.client].reader
    return isinstance(reader, asyncio.StreamReader) and reader.at_eof()


def _may_go_on(stream: HttpStream, hop: MintedServer) -> bool:
    request = ReviewRequest(stream.flow, hop.route.egress.key)
    try:
        ask(request)
    except Exception:
        logger.exception("Egress: cannot check a flow; it is cut")
        return False
    return request.answer


def stand_guard() -> EgressGuard:
    """The guard of this mitmproxy; adds it to the end of the chain if it is missing.

    mitmproxy's own way of adding an addon is not used, because it fails if another addon has the
    same name, or if an option that another addon waits for has a bad value.
    """
    guard = find(EgressGuard)
    if guard is None:
        guard = EgressGuard()
        _join(guard)
        guard.load(None)
    return guard


def _join(guard: EgressGuard) -> None:
    manager = ctx.master.addons
    manager.chain.append(guard)
    manager.lookup[guard.name] = guard


def _handler(client: connection.Client) -> server.ConnectionHandler:
    """The handler of a client that has just connected."""
    # UDP clients are listed by address.
    proxyserver = find(Proxyserver)
    connections = proxyserver.connections if proxyserver else {}
    found: server.ConnectionHandler | None = connections.get(client.id)
    candidates = [found] if found else connections.values()
    return next(handler for handler in candidates if handler.client is client)
