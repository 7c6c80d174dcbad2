"""The root layer: holds every server connection until the policy has answered for it.

It stands between mitmproxy's layers and the sockets. It holds each ``OpenConnection`` whose
connection no egress layer minted, asks the policy for a route, and then runs the connection
through the tunnel stack of that route. Everything else passes unchanged, so eager certificate
sniffing, server-first protocols and transparent modes work as in plain mitmproxy.
"""

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mitmproxy import connection
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers.dns import DnsRequestHook

from ..log import get_logger
from ..model.decision import Meter, Refusal, Route
from ..policy.hop import HANDSHAKE_TIMEOUT, LEFT, Outcome, broken, handshake_limit
from .dialer import GONE, MintedServer, is_shortage, judged
from .dns_mode import refuse_unless_direct
from .echo import redacted_log
from .passing import PassingLayer
from .questions import ConnectRequest, EgressConnectHook, Report, ask
from .record import EgressRecord, keep, record_of
from .refusal import UNANSWERED, RefusalText, refused
from .refusal_log import note_refusal
from .tunnel import BareTunnel, IssueCommand, TunnelExit, asked_at, build, is_bare, unfinished
from .via import choice_in, is_forward

logger = get_logger(__name__)

_LATE: Final = 0.1
"""Seconds by which a limit may come late before this process is suspected of having stood still."""
_UNREADABLE: Final = (connection.ConnectionState.CLOSED, connection.ConnectionState.CAN_WRITE)


@dataclass(eq=False, slots=True)
class Tunnel:
    """A logical connection: ``outer`` takes events, ``port`` collects what comes out."""

    server: connection.Server
    outer: layer.Layer | BareTunnel
    port: TunnelExit | BareTunnel
    route: Route
    record: EgressRecord
    meter: Meter | None
    began: float
    opening: bool = True
    failed: bool = False
    """It was not opened. What still comes from its hop is nobody's: ``server`` may have another
    tunnel by now."""
    timed_out: bool = False
    limit: float = HANDSHAKE_TIMEOUT
    """The seconds that the handshake may take."""
    hop: MintedServer | None = None
    reached: float = 0.0
    """When the hop was there."""
    bare: MintedServer | None = None
    """The open hop, if its bytes are those of ``server`` and need not pass through the layers."""

    def count(self, up: int, down: int) -> None:
        """Count bytes of the hop. If that goes wrong the connection goes on, uncounted: its client
        would else wait for ever."""
        try:
            if self.meter:
                self.meter(up, down)
        except Exception:
            self.meter = None
            logger.exception("Egress: the bytes of a connection cannot be counted")


class EgressRoot(PassingLayer):
    """Runs the server connections of ``child_layer`` through tunnels."""

    child_layer: layer.Layer
    _told: frozenset[connection.Connection] = frozenset()

    def __init__(self, ctx: context.Context, child: layer.Layer | None = None) -> None:
        super().__init__(ctx)
        ctx.layers.remove(self)  # mitmproxy derives the proxy mode from the first layer in it
        self.child_layer = child or layer.NextLayer(ctx)
        self._held: dict[commands.Command, commands.OpenConnection] = {}
        self._owners: dict[commands.Command, Tunnel] = {}
        self._limits: dict[commands.Command, Tunnel] = {}
        self._by_hop: dict[connection.Connection, Tunnel] = {}
        self._by_server: dict[connection.Connection, Tunnel] = {}
        self._inbox: list[events.Event] = []  # an empty deque takes ten times the memory

    def __repr__(self) -> str:
        return f"EgressRoot({self.child_layer!r})"

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.CommandCompleted):
            tunnel = self._owners.pop(event.command, None)
            if tunnel:
                yield from self._run(tunnel, event)
            elif held := self._held.pop(event.command, None):
                assert isinstance(event.command, EgressConnectHook)
                yield from self._answered(held, event.command.data)
            elif limited := self._limits.pop(event.command, None):
                yield from self._limit_reached(limited)
            else:
                yield from self._pass(event)
        elif isinstance(event, events.ConnectionEvent) and event.connection in self._by_hop:
            tunnel = self._by_hop[event.connection]
            if isinstance(event, events.DataReceived):
                tunnel.count(0, len(event.data))
            if isinstance(event, events.ConnectionClosed) and (lost := self._opening(event)):
                yield from self._run(tunnel, lost)
            elif tunnel.bare and isinstance(event, events.DataReceived):
                yield from self._pass(events.DataReceived(tunnel.server, event.data))
            else:
                yield from self._run(tunnel, event)
        else:
            yield from self._pass(event)
        # Events from a tunnel wait until the child has finished with the previous one.
        while self._inbox:
            yield from self._pass(self._inbox.pop(0))

    _handle_event = handle_event

    def _pass(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Give the child an event and pass on its commands. Commands for its server connections go
        into their tunnels."""
        for command in self.child_layer.handle_event(event):
            if isinstance(command, commands.ConnectionCommand):
                server = command.connection
                if isinstance(server, connection.Server) and not isinstance(server, MintedServer):
                    yield from self._take(command, server)
                    continue
            elif isinstance(command, DnsRequestHook):
                refuse_unless_direct(command.flow)
            elif isinstance(command, commands.Log):
                command = redacted_log(command, self._records())
            yield command

    def _records(self) -> Iterator[EgressRecord]:
        return (tunnel.record for tunnel in self._by_server.values())

    def _take(
        self, command: commands.ConnectionCommand, server: connection.Server
    ) -> layer.CommandGenerator[None]:
        """Carry out the child's command for a server connection."""
        if isinstance(command, commands.OpenConnection):
            yield from self._open(command)
        elif tunnel := self._by_server.get(server):
            if tunnel.bare and isinstance(command, commands.SendData):
                tunnel.count(len(command.data), 0)
                yield commands.SendData(tunnel.bare, command.data)
            else:
                yield from self._run(tunnel, IssueCommand(command))
        else:
            yield command
        if isinstance(command, commands.SendData) and self._has_ended(server):
            # mitmproxy's TLS layer may start a handshake with a server that closed before the
            # client began its own, and would wait for an answer for ever.
            self._told |= {server}
            if record := record_of(server):
                record.ended_early = True
            self._inbox.append(events.ConnectionClosed(server))

    def _has_ended(self, server: connection.Server) -> bool:
        """Whether a server can send no more and the child has not been reminded of it yet."""
        if server in self._told:
            return False
        tunnel = self._by_server.get(server)
        if tunnel is None:
            return True
        hop = tunnel.hop
        return hop is not None and hop.state in _UNREADABLE

    def _open(self, command: commands.OpenConnection) -> layer.CommandGenerator[None]:
        if command.connection in self._told:
            self._told -= {command.connection}
        yield from self._ask(command, ConnectRequest(self.context.client, command.connection))

    def _ask(
        self, command: commands.OpenConnection, request: ConnectRequest
    ) -> layer.CommandGenerator[None]:
        ask(request)
        if request.answer is not None:
            yield from self._answered(command, request)
            return
        hook = EgressConnectHook(request)
        # Only the child waits; this layer and those above go on.
        hook.blocking = self  # type: ignore[assignment]
        self._held[hook] = command
        yield hook

    def _answered(
        self, command: commands.OpenConnection, request: ConnectRequest
    ) -> layer.CommandGenerator[None]:
        server = command.connection
        answer = request.answer or UNANSWERED
        record = record_of(server) or keep(server, EgressRecord())
        if record.choice and not isinstance(request.answer, Route):
            record.choice.dropped()
        if isinstance(answer, Refusal):
            self._refused(server, record, answer)
            self._inbox.append(events.OpenConnectionCompleted(command, RefusalText(answer)))
            return
        if self._client_is_gone:
            answer.choice.dropped()
            self._inbox.append(events.OpenConnectionCompleted(command, GONE))
            return
        record.egress, record.pin, record.refusal = answer.egress, answer.pin, None
        record.route = answer
        answer.choice.dialled()
        record.forwards, record.redactor = is_forward(server.via), None
        outer, port = build(self.context, server, answer, record.forwards)
        tunnel = Tunnel(server, outer, port, answer, record, answer.meter, time.monotonic())
        self._by_server[server] = tunnel
        yield from self._run(tunnel, events.Start())
        yield from self._run(tunnel, IssueCommand(command))

    @property
    def _client_is_gone(self) -> bool:
        return self.context.client.state is connection.ConnectionState.CLOSED

    def _opening(self, end: events.ConnectionClosed) -> events.OpenConnectionCompleted | None:
        """The failure to report if a connection is lost before it was reported as open."""
        hop = end.connection
        for command in self._owners:
            if isinstance(command, commands.OpenConnection) and command.connection == hop:
                del self._owners[command]
                return events.OpenConnectionCompleted(command, _lost(command.connection))
        return None

    def _run(self, tunnel: Tunnel, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.OpenConnectionCompleted):
            hop = event.command.connection
            assert isinstance(hop, MintedServer)
            if event.reply:
                hop.over = True
                self._by_hop.pop(hop, None)
            elif not hop.given_up:
                tunnel.hop, tunnel.reached = hop, time.monotonic()
                tunnel.record.connect_ms = _ms(tunnel.reached - _began(hop))
            if not self._ended_here(hop, event.reply):
                _report_dial(hop, event.reply)
        elif isinstance(event, events.ConnectionClosed) and isinstance(
            event.connection, MintedServer
        ):
            event.connection.over = True
        if tunnel.failed and isinstance(event, events.ConnectionEvent):
            if isinstance(event, events.ConnectionClosed):
                self._forget(event.connection)
            return
        for command in tunnel.outer.handle_event(event):
            if isinstance(command, commands.SendData):
                tunnel.count(len(command.data), 0)
            if isinstance(command, commands.OpenConnection):
                self._by_hop[command.connection] = self._owners[command] = tunnel
            elif command.blocking or isinstance(command, commands.RequestWakeup):
                self._owners[command] = tunnel
            yield command
        outbox, tunnel.port.outbox = tunnel.port.outbox, []
        for out in outbox:
            event_out = self._outcome(tunnel, out)
            if again := self._to_try_again(tunnel, event_out):
                yield from self._ask(*again)
            else:
                self._inbox.append(event_out)
        if isinstance(event, events.OpenConnectionCompleted) and not event.reply:
            if event.command.connection is tunnel.hop:
                yield from self._connected(tunnel)
        elif isinstance(event, events.ConnectionClosed):
            self._forget(event.connection)
        if tunnel.bare and isinstance(tunnel.port, TunnelExit) and self._waits_for_nothing(tunnel):
            tunnel.outer = tunnel.port = BareTunnel(tunnel.server, tunnel.bare)
            self._owners = self._owners.copy()  # a dict that was emptied keeps its room

    def _waits_for_nothing(self, tunnel: Tunnel) -> bool:
        """Whether the layers of a tunnel have nothing under way, such as an attempt that they gave
        up, which would have to be closed if it succeeds."""
        return not any(owner is tunnel for owner in self._owners.values())

    def _ended_here(self, hop: MintedServer, failure: str | None) -> bool:
        """Whether the end of a dial says nothing about its address."""
        local = failure and (self._client_is_gone or is_shortage(hop, failure))
        return hop.given_up or hop.cut or bool(local)

    def _connected(self, tunnel: Tunnel) -> layer.CommandGenerator[None]:
        tunnel.record.peer = tunnel.hop.peername if tunnel.hop else None
        tunnel.record.hop = tunnel.hop
        if tunnel.opening:
            tunnel.limit = handshake_limit(tunnel.route.choice, time.monotonic())
            yield self._limit(tunnel, tunnel.limit)

    def _limit_reached(self, tunnel: Tunnel) -> layer.CommandGenerator[None]:
        if not tunnel.opening or tunnel.hop is None:
            return
        now = time.monotonic()
        spent = now - tunnel.reached
        if spent > tunnel.limit + _LATE and tunnel.limit <= HANDSHAKE_TIMEOUT:
            # This process stood still: the proxy may have answered, and could not be heard.
            more = handshake_limit(tunnel.route.choice, now)
            tunnel.limit = spent + more
            yield self._limit(tunnel, more)
        else:
            tunnel.timed_out = True
            yield commands.CloseConnection(tunnel.hop)

    def _limit(self, tunnel: Tunnel, seconds: float) -> commands.RequestWakeup:
        limit = commands.RequestWakeup(seconds)
        self._limits[limit] = tunnel
        return limit

    def _outcome(self, tunnel: Tunnel, event: events.Event) -> events.Event:
        """Note how opening ended. A proxy's failure becomes a refusal that says so."""
        if not isinstance(event, events.OpenConnectionCompleted):
            return event
        tunnel.opening = False
        error = event.reply
        if error:
            tunnel.failed = True
            self._by_server.pop(tunnel.server, None)
        elif tunnel.hop:
            tunnel.record.ready = time.monotonic()
            if tunnel.route.egress.proxy:
                tunnel.record.handshake_ms = _ms(tunnel.record.ready - tunnel.reached)
        if not error and is_bare(tunnel.route):
            tunnel.bare = tunnel.hop
        if error and self._client_is_gone and not tunnel.route.is_stock:
            error = GONE  # mitmproxy has ended the client's connections
        elif error and tunnel.hop and tunnel.hop.cut:
            error = RefusalText(tunnel.hop.cut_refusal())
        elif error and tunnel.timed_out:
            error = refused(tunnel.route, unfinished(tunnel.outer, tunnel.limit))
        elif error and not isinstance(error, RefusalText) and not tunnel.route.is_stock:
            error = refused(tunnel.route, broken(error))
        _report_attempt(tunnel, error)
        return events.OpenConnectionCompleted(event.command, error)

    def _to_try_again(
        self, tunnel: Tunnel, event: events.Event
    ) -> tuple[commands.OpenConnection, ConnectRequest] | None:
        """The question for another egress, if a connection failed that no flow chose an egress for.
        A refusal that is final is noted."""
        if not isinstance(event, events.OpenConnectionCompleted):
            return None
        error, server, choice = event.reply, tunnel.server, tunnel.route.choice
        if not isinstance(error, RefusalText):
            return None
        if choice.pool and choice_in(server.via) is None and not self._client_is_gone:
            request = ConnectRequest(self.context.client, server, choice, error.refusal)
            return event.command, request
        self._refused(server, tunnel.record, error.refusal)
        return None

    def _refused(self, server: connection.Server, record: EgressRecord, refusal: Refusal) -> None:
        record.refusal = refusal
        if choice_in(server.via) is None:  # otherwise each of its flows is refused, and logged
            note_refusal(refusal, self.context.client)

    def _forget(self, hop: connection.Connection) -> None:
        if hop.state is connection.ConnectionState.CLOSED:
            tunnel = self._by_hop.pop(hop, None)
            mine = tunnel and self._by_server.get(tunnel.server) is tunnel and tunnel.hop is hop
            if tunnel and mine and not tunnel.opening:
                del self._by_server[tunnel.server]


def _lost(hop: connection.Server) -> str:
    """How a connection was lost before mitmproxy could report it. A socket that was connected and
    has no peer was reset by the peer, as the system would say a moment later."""
    if hop.timestamp_tcp_setup and hop.peername is None:
        return f"[Errno {errno.ECONNRESET}] reset right after it was accepted"
    return "the connection was lost"


def _report_dial(hop: MintedServer, failure: str | None) -> None:
    ended = time.monotonic()
    failed = judged(hop, failure) if failure else None
    ask(Report(hop.route, Outcome("dial", _address(hop), failed, _began(hop), ended)))


def _began(hop: MintedServer) -> float:
    return hop.made if hop.begun is None else hop.begun


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _report_attempt(tunnel: Tunnel, error: str | None) -> None:
    """Report how the whole attempt to open a tunnel ended. An end that says nothing about the proxy
    is reported too: a proxy that was to be tried by it can be tried again."""
    route, hop = tunnel.route, tunnel.hop
    failure = error.failure if isinstance(error, RefusalText) else None
    if route.egress.proxy is None:
        return
    if error and failure is None:
        failure = LEFT
    ended = time.monotonic()
    asked = asked_at(tunnel.outer) or (None if error else ended)
    cost = asked - _began(hop) if asked and hop else None
    address = _address(hop) if hop else route.pin.addresses[0]
    outcome = Outcome("attempt", address, failure, tunnel.began, ended, cost)
    if tunnel.record.forwards and not failure:
        tunnel.record.opened = outcome
    else:
        ask(Report(route, outcome))


def _address(hop: MintedServer) -> str:
    return str((hop.address or hop.minted)[0])
