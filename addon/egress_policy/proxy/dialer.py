"""The dialler: opens minted connections to the addresses of a pin, and to nothing else.

A ``MintedServer`` is the only kind of server connection that the guard lets through. The ``Dialer``
is the outermost layer of a tunnel stack; it checks the peer before the first byte is sent.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final

from mitmproxy import connection
from mitmproxy.proxy import commands, context, events, layer, tunnel

from ..errors import Reason
from ..management.one_line import Cut
from ..model.decision import Refusal, Route
from ..model.host import normalize_target_host
from ..policy.fault import Cause
from ..policy.hop import (
    ADDRESS_TIMEOUT,
    AT_ONCE,
    FULL,
    OUT_OF_DESCRIPTORS,
    STAGGER,
    HopFailure,
    connect_limit,
    disallowed,
    loop_back,
    unanswered,
    unconnected,
    wrong_peer,
)
from ..sentence import Sentence
from .refusal import REFUSING, RefusalText, refused

GONE: Final = "the client went away before the connection was made"
"""An error but not a refusal: the policy had a route, and its egress is not to blame."""
GIVEN_UP: Final = "egress: given up"
"""Begins the text with which an attempt is cancelled here. Such an end is no error, and the log
leaves it out."""
_STOPPED: Final = "Connection killed: "
"""Begins what mitmproxy says of a connection that an addon did not let through."""
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


class _Host(str):
    """The host of a ``_Place``, with what is asked for there: a tuple has little room for it."""

    __slots__ = ("purpose",)
    purpose: tuple[str, tuple[str, int]]


class _Place(tuple[_Host, int]):
    """An address that counts for one egress and one target alone.

    For each client mitmproxy opens five connections to an address at a time, and lets further ones
    wait until one of them ends. The targets behind one proxy would wait for each other for ever.
    """

    __slots__ = ()

    def __new__(cls, address: connection.Address, route: Route) -> "_Place":
        host = _Host(address[0])
        host.purpose = (route.egress.key, route.target)
        return super().__new__(cls, (host, address[1]))

    def __eq__(self, other: object) -> bool:
        told_apart = isinstance(other, _Place) and self[0].purpose != other[0].purpose
        return not told_apart and super().__eq__(other)

    def __hash__(self) -> int:
        """Unlike the hash of the bare address it differs for each target. With one hash for all,
        mitmproxy's table of a client with thousands of targets would be as slow as a list."""
        return hash((*self, self[0].purpose))


class MintedServer(connection.Server):
    """A physical connection that the policy minted: one attempt at one address of a pin.

    ``timeout`` is in seconds. It counts from ``begun``, the moment on the monotonic clock at which
    the attempt really started.
    """

    # Beside mitmproxy's twenty attributes these would be too many for the compact form of Python's
    # ``__dict__``, and each connection would take 1.4 KB more.
    __slots__ = (
        "_task", "begun", "cut", "cut_by", "cut_for", "full", "given_up", "made", "minted", "over",
        "rewritten", "route", "timed_out", "timeout",
    )  # fmt: skip

    def __init__(self, route: Route, address: connection.Address, timeout: float) -> None:
        super().__init__(address=address, transport_protocol=route.transport)
        self.route = route
        self.minted = address
        self.rewritten: object = None
        """The address that another addon set, which only a stock route takes over. Here it is not
        dialled, even if it was set after the guard had looked, and the connection is not used."""
        self.timeout = timeout
        self.made = time.monotonic()
        self.begun: float | None = None
        self.timed_out = False
        self.cut = False
        """Set when the policy changed meanwhile, its exit is a wrong one, or a person had it cut:
        it must not be used, and no other address is tried."""
        self.cut_by: Cut | None = None
        """What cut it when it was open."""
        self.cut_for: Refusal | None = None
        """Why it was cut, where that was not an edit of the policy."""
        self.over = False
        """Set when the layers know that it failed, or that nothing comes from it any more."""
        self.full = False
        """Set when the proxy has as many connections as its limit allows."""
        self.given_up = False
        """Set when another address has answered, or none is wanted any more."""
        self._task: asyncio.Task[None] | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if name == "timestamp_start" and value is not None:
            self.begun = time.monotonic()  # mitmproxy's own clock may be set meanwhile
        elif name == "address" and value != getattr(self, "minted", value):
            name = name if self.route.is_stock else "rewritten"
        super().__setattr__(name, value)  # type: ignore[no-untyped-call]

    def give_up(self) -> None:
        """End the attempt, whether or not it has begun."""
        self.given_up = True
        if self._task:
            self._task.cancel(f"{GIVEN_UP}, another address has answered")

    def cut_refusal(self) -> Refusal:
        """Why it was cut."""
        return self.cut_for or self.route.superseded_refusal()

    @property
    def cut_text(self) -> str:
        """Why it was cut, for a flow that had left by it."""
        return str(self.cut_refusal().detail).partition(REFUSING)[0]

    def end_with(self, task: "asyncio.Task[None] | None") -> None:
        """Set the task that makes the attempt, which ``give_up`` cancels; ``None`` afterwards."""
        self._task = task


class Dialer(tunnel.TunnelLayer):
    """Opens ``conn`` over the first address of the route's pin that answers."""

    conn: connection.Server
    tunnel_connection: connection.Server

    def __init__(
        self,
        ctx: context.Context,
        conn: connection.Server,
        route: Route,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(ctx, tunnel_connection=_hop(route, 0, 0), conn=conn)
        self.route = route
        self.clock = clock
        self._next = 0
        self._attempts: dict[commands.Command, MintedServer] = {}
        self._stagger: commands.RequestWakeup | None = None
        self._deadline = 0.0

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.OpenConnectionCompleted):
            hop = self._attempts.pop(event.command, None)
            # mitmproxy keeps the command as long as the connection, and this layer with it.
            event.command.blocking = False
            if hop:
                yield from self._attempted(hop, event.reply)
            elif not event.reply:  # it answered although it was given up
                yield commands.CloseConnection(event.command.connection)
        elif isinstance(event, events.Wakeup):
            if event.command is self._stagger:
                yield from self._start_next()
        elif not (
            isinstance(event, events.ConnectionEvent)
            and isinstance(event.connection, MintedServer)
            and event.connection != self.tunnel_connection
        ):  # no layer needs what an attempt reports that was given up
            yield from super()._handle_event(event)

    def _handle_command(self, command: commands.Command) -> layer.CommandGenerator[None]:
        if isinstance(command, commands.OpenConnection) and command.connection == self.conn:
            self.command_to_reply_to = command
            self.tunnel_state = tunnel.TunnelState.ESTABLISHING
            now = self.clock()
            self._next, self._deadline = 0, now + connect_limit(self.route.choice, now)
            self.conn.timestamp_start = time.time()
            yield from self._start_next()
        else:
            yield from super()._handle_command(command)

    def _start_next(self) -> layer.CommandGenerator[None]:
        """Begin an attempt at the next address, unless none is left, the time is over or the
        client has gone. Where too many are under way, it begins when one of them has ended."""
        self._stagger = None
        left, count = self._deadline - self.clock(), len(self.route.pin.addresses)
        # Without a client nobody would end the attempt, and its request would be sent.
        if self._next >= count or left <= 0 or self._client_is_gone:
            return
        if len(self._attempts) >= AT_ONCE:
            return
        hop = _hop(self.route, self._next, min(ADDRESS_TIMEOUT, left))
        self._next += 1
        command = commands.OpenConnection(hop)
        # Further attempts begin meanwhile, but the answer to this one must find its way here.
        command.blocking = self  # type: ignore[assignment]
        self._attempts[command] = hop
        yield command
        if self._next < count and len(self._attempts) < AT_ONCE:
            self._stagger = commands.RequestWakeup(STAGGER)
            yield self._stagger

    def _attempted(self, hop: MintedServer, failure: str | None) -> layer.CommandGenerator[None]:
        if refusal := self._unusable(hop):
            if not failure:
                yield commands.CloseConnection(hop)
            yield from self._fail(refusal)
        elif not failure and self._client_is_gone:  # a hook kept the attempt from ending with it
            yield commands.CloseConnection(hop)
            yield from self._fail(GONE)
        elif not failure:
            self._give_up()
            self.tunnel_connection = hop
            self.conn.timestamp_tcp_setup = hop.timestamp_tcp_setup
            self.conn.peername, self.conn.sockname = hop.peername, hop.sockname
            yield from self.start_handshake()
        else:
            if is_shortage(hop, failure):
                self._next = len(self.route.pin.addresses)
            yield from self._start_next()
            if not self._attempts:
                yield from self._fail(self._error(hop, failure))

    @property
    def _client_is_gone(self) -> bool:
        return self.context.client.state is connection.ConnectionState.CLOSED

    def _fail(self, error: str) -> layer.CommandGenerator[None]:
        self._give_up()
        command, self.command_to_reply_to = self.command_to_reply_to, None
        self.tunnel_state = tunnel.TunnelState.CLOSED
        if command:
            yield from self.event_to_child(events.OpenConnectionCompleted(command, error))

    def _give_up(self) -> None:
        """End the other attempts."""
        self._stagger = None
        attempts, self._attempts = self._attempts, {}
        for hop in attempts.values():
            hop.give_up()

    def _unusable(self, hop: MintedServer) -> RefusalText | None:
        """Why the connection must not be used: it reached this process, the policy changed, or the
        peer is not the one that was dialled.

        No other address is tried then: the route is gone, or somebody rewrites connections.
        """
        if loop := self._loop(hop):
            return RefusalText(loop)
        if hop.cut:
            return RefusalText(hop.cut_refusal())
        failure = _elsewhere(hop)
        return refused(self.route, failure) if failure else None

    def _loop(self, hop: MintedServer) -> Refusal | None:
        if hop.peername is None:
            return self.route.loop(place_of(hop.address or hop.minted))
        return loop_back(self.route, hop.peername, (hop.sockname or ("",))[0])

    def _error(self, hop: MintedServer, failure: str) -> str:
        if self.route.is_stock:
            return failure  # nothing was asked of this connection that stock mitmproxy does not do
        return refused(self.route, judged(hop, failure))


def _elsewhere(hop: MintedServer) -> HopFailure | None:
    """Why a connection does not lead where it was meant to."""
    if hop.rewritten is not None:
        put = "another addon put {found} in place of {meant}"
        found, meant = _text(hop.rewritten), _text(hop.minted)
        what = Sentence("hop_rewritten", put, found=found, meant=meant)
        return HopFailure(Reason.PEER_MISMATCH, what, Cause.NOBODY)
    if hop.peername is None or hop.address != hop.minted:  # a stock route may be rewritten
        return None
    return wrong_peer(hop.minted[0], hop.peername[0], hop.route.pin.family)


def is_shortage(hop: MintedServer, failure: str) -> bool:
    """Whether an attempt failed for want of a descriptor, which says nothing about its address."""
    return judged(hop, failure) is OUT_OF_DESCRIPTORS


def judged(hop: MintedServer, failure: str) -> HopFailure:
    """Why an attempt failed. mitmproxy hands on the text of the system's error alone."""
    address, port = hop.address or hop.minted
    if hop.full:
        return FULL
    if hop.timed_out:
        return unanswered(address, port, hop.timeout)
    if failure.startswith(_STOPPED):
        return disallowed(address, port, failure.removeprefix(_STOPPED))
    match = _ERRNO.match(failure)
    return unconnected(address, port, int(match[1]) if match else None, failure)


def place_for(route: Route, number: int) -> connection.Address:
    """The address of a pin to dial, for this route alone."""
    return _Place((route.pin.addresses[number], route.port), route)


def _hop(route: Route, number: int, timeout: float) -> MintedServer:
    return MintedServer(route, place_for(route, number), timeout)


def place_of(address: connection.Address) -> tuple[str, int]:
    """The host, in canonical form, and the port of an address as the system gives it."""
    return normalize_target_host(address[0]), address[1]


def _text(address: object) -> str:
    match address:
        case (host, port):
            return f"{host} port {port}"
    return repr(address)
