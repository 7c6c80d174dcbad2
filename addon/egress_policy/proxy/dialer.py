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
from ..model.decision import Refusal, Route
from ..model.host import canonical_ip, detect_ip_literal_family, normalize_target_host
from ..policy.attempts import (
    ADDRESS_TIMEOUT,
    AT_ONCE,
    CONNECT_TIMEOUT,
    SHORTAGE,
    SHORTAGES,
    STAGGER,
)
from .refusal import RefusalText

GIVEN_UP: Final = "egress: given up"
"""How mitmproxy is told that an attempt was ended here. It is no error, and the log is silent."""
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


class _Place(tuple[str, int]):
    """An address that counts for one egress and one target alone.

    mitmproxy opens five connections to an address at a time for each client and lets further ones
    wait until one of them ends. All targets behind a proxy would wait for each other, for ever.
    """

    purpose: tuple[str, tuple[str, int]]

    def __new__(cls, address: connection.Address, route: Route) -> "_Place":
        place = super().__new__(cls, address)
        place.purpose = (route.egress.key, route.target)
        return place

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.purpose == getattr(other, "purpose", self.purpose)

    def __hash__(self) -> int:
        """Differs from that of the bare address, which is no key beside these: with one hash for
        all targets of a hop, a client with thousands of them would wait for its look-ups."""
        return hash((*self, self.purpose))


class MintedServer(connection.Server):
    """A physical connection that the policy minted: one attempt at one address of a pin.

    ``timeout`` is in seconds, counted from the moment the attempt really starts, which ``begun``
    says by the monotonic clock.
    """

    begun: float | None = None

    def __init__(self, route: Route, address: connection.Address, timeout: float) -> None:
        super().__init__(address=address, transport_protocol=route.transport)
        self.route = route
        self.minted = address
        self.timeout = timeout
        self.timed_out = False
        self.cut = False
        """Set when the policy changed meanwhile: not to be used, not to be tried elsewhere."""
        self.over = False
        """Set when the layers know that it failed, or that nothing comes from it any more."""
        self.given_up = False
        """Set when another address has answered, or none is wanted any more."""
        self._task: asyncio.Task[None] | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if name == "timestamp_start" and value is not None:
            self.begun = time.monotonic()  # mitmproxy's own clock may be set meanwhile
        super().__setattr__(name, value)  # type: ignore[no-untyped-call]

    def give_up(self) -> None:
        """End the attempt, whether or not it has begun."""
        self.given_up = True
        if self._task:
            self._task.cancel(f"{GIVEN_UP}, another address has answered")

    def end_with(self, task: "asyncio.Task[None] | None") -> None:
        """``task`` makes the attempt, and can be ended for it; ``None`` when it is over."""
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
            if hop:
                yield from self._attempted(hop, event.reply)
            elif not event.reply:  # it was given up, and answered all the same
                yield commands.CloseConnection(event.command.connection)
        elif isinstance(event, events.Wakeup):
            if event.command is self._stagger:
                yield from self._start_next()
        elif not (
            isinstance(event, events.ConnectionEvent)
            and isinstance(event.connection, MintedServer)
            and event.connection != self.tunnel_connection
        ):  # what an attempt that was given up still reports concerns nobody
            yield from super()._handle_event(event)

    def _handle_command(self, command: commands.Command) -> layer.CommandGenerator[None]:
        if isinstance(command, commands.OpenConnection) and command.connection == self.conn:
            self.command_to_reply_to = command
            self.tunnel_state = tunnel.TunnelState.ESTABLISHING
            self._next, self._deadline = 0, self.clock() + CONNECT_TIMEOUT
            self.conn.timestamp_start = time.time()
            yield from self._start_next()
        else:
            yield from super()._handle_command(command)

    def _start_next(self) -> layer.CommandGenerator[None]:
        """Begin with the next address, if there is one, somebody waits for it, and few enough are
        under way. Otherwise it begins when one of these has ended."""
        self._stagger = None
        left, count = self._deadline - self.clock(), len(self.route.pin.addresses)
        # Without a client nobody would end the attempt, and its request would be sent.
        client_is_gone = self.context.client.state is connection.ConnectionState.CLOSED
        if self._next >= count or left <= 0 or client_is_gone:
            return
        if len(self._attempts) >= AT_ONCE:
            return
        hop = _hop(self.route, self._next, min(ADDRESS_TIMEOUT, left))
        self._next += 1
        command = commands.OpenConnection(hop)
        # Others begin meanwhile, but the layers above still owe this one the answer.
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
            yield from self._fail(RefusalText(refusal))
        elif not failure:
            self._give_up()
            self.tunnel_connection = hop
            self.conn.timestamp_tcp_setup = hop.timestamp_tcp_setup
            self.conn.peername, self.conn.sockname = hop.peername, hop.sockname
            yield from self.start_handshake()
        else:
            if _is_shortage(failure):
                self._next = len(self.route.pin.addresses)
            yield from self._start_next()
            if not self._attempts:
                yield from self._fail(self._error(hop, failure))

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

    def _unusable(self, hop: MintedServer) -> Refusal | None:
        """Why the connection must not be used: the policy changed, or the peer is not the pinned.

        Neither gets a second try: the route is gone, or somebody rewrites our connections.
        """
        if refusal := self._loop(hop):
            return refusal
        if hop.cut:
            return self.route.superseded_refusal()
        actual = self._elsewhere(hop)
        if actual is None:
            return None
        return self.route.refusal(
            Reason.PEER_MISMATCH,
            f"Connected to {_text(actual)} where {_text(hop.minted)} was pinned; "
            "refusing to egress (fail-closed)",
        )

    def _loop(self, hop: MintedServer) -> Refusal | None:
        if hop.peername is None:
            return self.route.loop(place_of(hop.address or hop.minted))
        return self.route.loop_back(place_of(hop.peername), (hop.sockname or ("",))[0])

    def _elsewhere(self, hop: MintedServer) -> connection.Address | None:
        """Where a connection leads that does not lead to what it was minted for."""
        family, peer = self.route.pin.family, hop.peername
        if hop.address != hop.minted and not self.route.is_stock:
            return hop.address  # another addon rewrote it
        if family is None or peer is None:
            return None
        right = detect_ip_literal_family(peer[0]) == family and _same(peer[0], hop.minted[0])
        return None if right else peer

    def _error(self, hop: MintedServer, failure: str) -> str:
        if self.route.is_stock:
            return failure  # nothing was asked of this connection that stock mitmproxy does not do
        if _is_shortage(failure):
            return RefusalText(self.route.refusal(Reason.ERROR, f"{SHORTAGE}; refusing to egress"))
        address = _text(hop.address or hop.minted)
        if hop.timed_out:
            return RefusalText(
                self.route.refusal(
                    Reason.CONNECT_TIMEOUT,
                    f"No answer from {address} within {hop.timeout:.3g} s; refusing to egress",
                )
            )
        return RefusalText(
            self.route.refusal(
                Reason.CONNECT_REFUSED,
                f"Cannot connect to {address}: {failure}; refusing to egress",
            )
        )


def _is_shortage(failure: str) -> bool:
    """Whether an attempt failed for want of a descriptor. mitmproxy hands on the text alone."""
    match = _ERRNO.match(failure)
    return match is not None and int(match[1]) in SHORTAGES


def place_for(route: Route, number: int) -> connection.Address:
    """The address of a pin to dial, for this route alone."""
    return _Place((route.pin.addresses[number], route.port), route)


def _hop(route: Route, number: int, timeout: float) -> MintedServer:
    return MintedServer(route, place_for(route, number), timeout)


def place_of(address: connection.Address) -> tuple[str, int]:
    """An address with its host in canonical form, and without flow label and scope number."""
    return normalize_target_host(address[0]), address[1]


def _text(address: connection.Address) -> str:
    return f"{address[0]} port {address[1]}"


def _same(peer: str, pinned: str) -> bool:
    return canonical_ip(peer) == canonical_ip(pinned)
