"""The stack of layers that carries one logical connection over a route.

    Dialer / [TLS to an https proxy] / [CONNECT or SOCKS5] / TunnelExit

``Dialer`` alone is the direct egress. ``TunnelExit`` is the innermost end: it takes commands from
the client's layers and keeps the events for them. Once a tunnel is open whose bytes are those of
its hop, a ``BareTunnel`` takes the place of all of them.
"""

import time

from mitmproxy import connection, http
from mitmproxy.proxy import commands, context, events, layer, tunnel
from mitmproxy.proxy.layers import tls
from mitmproxy.proxy.layers.http._upstream_proxy import HttpConnectUpstreamHook

from ..model.decision import Route
from ..model.host import url_host
from ..policy.fault import Cause
from ..policy.hop import (
    NO_TLS,
    HopFailure,
    answered_connect,
    answered_socks,
    broken,
    ended,
    silent,
)
from ..wire import http_connect, socks5
from ..wire.hint import SILENT_TO_TLS, hint
from ..wire.redact import Redactor
from .dialer import Dialer, place_of
from .passing import PassingLayer
from .refusal import RefusalText, refused


class IssueCommand(events.Event):
    """Carries a command of the client's layers through the stack to its ``TunnelExit``."""

    def __init__(self, command: commands.Command) -> None:
        self.command = command


class TunnelExit(PassingLayer):
    """The inner end of a tunnel stack."""

    def __init__(self, ctx: context.Context) -> None:
        super().__init__(ctx)
        self.outbox: list[events.Event] = []

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, IssueCommand):
            yield event.command
        elif not isinstance(event, events.Start):
            self.outbox.append(event)

    _handle_event = handle_event


class BareTunnel:
    """What is left to do for ``conn`` when its tunnel is open and adds nothing to the bytes of
    ``hop``: hand on who closes. The layers take 3 KB for each connection that stays open."""

    __slots__ = ("conn", "hop", "outbox")

    def __init__(self, conn: connection.Server, hop: connection.Server) -> None:
        self.conn = conn
        self.hop = hop
        self.outbox: list[events.Event] = []

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, IssueCommand):
            command = event.command
            if isinstance(command, commands.CloseConnection):
                self.conn.state &= ~connection.ConnectionState.CAN_WRITE
                command.connection = self.hop
            yield command
        elif isinstance(event, events.ConnectionClosed) and event.connection is self.hop:
            self.conn.state &= ~connection.ConnectionState.CAN_READ
            self.conn.timestamp_end = time.time()
            self.outbox.append(events.ConnectionClosed(self.conn))


class ProxyTls(tls.ServerTLSLayer):
    """TLS with an https proxy. An error says so where the proxy answers in another protocol."""

    first = b""

    def __init__(self, ctx: context.Context, conn: connection.Server, route: Route) -> None:
        super().__init__(ctx, conn)
        self.route = route

    def start_handshake(self) -> layer.CommandGenerator[None]:
        yield from super().start_handshake()
        if self.tls is None:  # mitmproxy closes the connection, as if the proxy had done so
            yield from self._handshake_finished(refused(self.route, NO_TLS))

    def receive_handshake_data(
        self, data: bytes
    ) -> layer.CommandGenerator[tuple[bool, str | None]]:
        self.first = (self.first + data)[:8]
        done, error = yield from super().receive_handshake_data(data)
        if error and (told := hint(self.first, "https")):
            error = error.removesuffix(".") + told
        return done, error


def failure_of(error: http_connect.ConnectError | socks5.Socks5Error) -> HopFailure:
    """What a handshake that failed says about the proxy."""
    if isinstance(error, http_connect.ConnectError):
        return answered_connect(error.text, error.status, error.retry_after, error.error)
    return answered_socks(error.text, error.reply, error.auth)


def unaskable(route: Route, error: http_connect.ConnectError | socks5.Socks5Error) -> RefusalText:
    """The error of a handshake that cannot be begun: nothing was sent that the proxy could have
    taken."""
    return refused(route, broken(error.text, Cause.OWN))


def said(handshake: http_connect.ConnectHandshake | socks5.Handshake) -> HopFailure | None:
    """What a handshake without an end says about the proxy all the same, if anything."""
    try:
        handshake.ended()
    except http_connect.ConnectError as error:
        return failure_of(error)
    return None


class HandshakeTunnel(tunnel.TunnelLayer):
    """What CONNECT and SOCKS5 share: bytes behind the last answer are the target's."""

    conn: connection.Server
    tunnel_connection: connection.Server
    handshake: http_connect.ConnectHandshake | socks5.Handshake

    def __init__(
        self, ctx: context.Context, hop: connection.Server, conn: connection.Server, route: Route
    ) -> None:
        super().__init__(ctx, tunnel_connection=hop, conn=conn)
        self.route = route
        self.rest = b""
        self.asked_at: float | None = None
        """When the target was asked for, on the monotonic clock."""

    def receive_handshake_data(
        self, data: bytes
    ) -> layer.CommandGenerator[tuple[bool, str | None]]:
        try:
            answer = self.handshake.receive(data)
        except (http_connect.ConnectError, socks5.Socks5Error) as error:
            return False, refused(self.route, failure_of(error))
        if answer:
            yield commands.SendData(self.tunnel_connection, answer)
            if self.handshake.asked and self.asked_at is None:
                self.asked_at = time.monotonic()
        self.rest = self.handshake.rest
        return self.handshake.done, None

    def _handshake_finished(self, err: str | None) -> layer.CommandGenerator[None]:
        if err and not isinstance(err, RefusalText):  # mitmproxy says that the hop was closed
            err = refused(self.route, said(self.handshake) or ended(self.asked_at is not None))
        yield from super()._handshake_finished(err)
        if not err and self.rest:
            rest, self.rest = self.rest, b""
            yield from self.receive_data(rest)

    def start_handshake(self) -> layer.CommandGenerator[None]:
        """Begin, unless the target has become a listener of mitmproxy while the hop was opened."""
        hop = self.tunnel_connection
        refusal = self.route.loop(place_of(hop.peername or hop.address or ("", 0)))
        yield from self.give_up(RefusalText(refusal)) if refusal else self.begin()

    def begin(self) -> layer.CommandGenerator[None]:
        """Send the first bytes of the handshake, which may name the target."""
        raise NotImplementedError

    def give_up(self, failure: RefusalText) -> layer.CommandGenerator[None]:
        """End a handshake that cannot even be begun."""
        yield from self.on_handshake_error(failure)
        yield from self._handshake_finished(failure)


class ConnectTunnel(HandshakeTunnel):
    """HTTP CONNECT (RFC 9110 section 9.3.6). The credentials are in the bytes, never in a flow."""

    def begin(self) -> layer.CommandGenerator[None]:
        proxy = self.route.proxy
        account = proxy.username, proxy.password.get_secret_value()
        host, port = self.route.target
        self.handshake = http_connect.ConnectHandshake(host, port, Redactor(*account))
        flow = http.HTTPFlow(self.context.client, self.tunnel_connection)
        flow.request = http.Request.make("CONNECT", "http://unused/")
        flow.request.data.host, flow.request.data.port = host, port
        flow.request.authority = f"{url_host(host)}:{port}"
        flow.request.data.scheme = flow.request.data.path = b""
        flow.request.headers.clear()
        flow.request.timestamp_start = flow.request.timestamp_end = time.time()
        yield HttpConnectUpstreamHook(flow)
        extra = [
            (name, value)
            for name, value in flow.request.headers.items(multi=True)
            if name.lower() not in ("host", "proxy-authorization")
        ]
        try:
            request = http_connect.connect_request(host, port, *account, extra)
        except http_connect.ConnectError as error:
            return (yield from self.give_up(unaskable(self.route, error)))
        self.asked_at = time.monotonic()
        yield commands.SendData(self.tunnel_connection, request)


class Socks5Tunnel(HandshakeTunnel):
    """SOCKS5 CONNECT (RFC 1928, RFC 1929)."""

    handshake: socks5.Handshake

    def begin(self) -> layer.CommandGenerator[None]:
        proxy = self.route.proxy
        try:
            self.handshake = socks5.Handshake(
                *self.route.target, proxy.username, proxy.password.get_secret_value()
            )
        except socks5.Socks5Error as error:
            return (yield from self.give_up(unaskable(self.route, error)))
        yield commands.SendData(self.tunnel_connection, self.handshake.start())


def unfinished(outer: layer.Layer | BareTunnel, seconds: float) -> HopFailure:
    """Why the handshake below ``outer`` did not end within this time."""
    below: object = outer
    while isinstance(below, tunnel.TunnelLayer):
        if isinstance(below, ProxyTls) and not below.first:
            return silent(seconds, SILENT_TO_TLS)
        if isinstance(below, HandshakeTunnel) and below.asked_at is not None:
            return said(below.handshake) or silent(seconds, "", asked=True)
        if isinstance(below, Socks5Tunnel):
            return silent(seconds, below.handshake.silence)
        below = below.child_layer
    return silent(seconds, "")


def asked_at(outer: layer.Layer | BareTunnel) -> float | None:
    """When the target was asked for in the stack below ``outer``, on the monotonic clock. ``None``
    before that, and where requests are forwarded."""
    below: object = outer
    while isinstance(below, tunnel.TunnelLayer):
        if isinstance(below, HandshakeTunnel):
            return below.asked_at
        below = below.child_layer
    return None


def is_bare(route: Route) -> bool:
    """Whether the bytes of an open tunnel are those of its hop: all but TLS to the proxy."""
    return route.egress.proxy is None or route.proxy.type != "https"


def build(
    ctx: context.Context, conn: connection.Server, route: Route, forward: bool
) -> tuple[layer.Layer, TunnelExit]:
    """The stack for ``conn`` over ``route``: its outer end, which takes events, and its inner end.

    ``forward`` leaves out CONNECT: the requests themselves name their target (RFC 9112, 3.2.2).
    """
    ctx = ctx.fork()
    ctx.server = conn
    stack = tunnel.LayerStack()
    if route.egress.proxy is None:
        stack /= Dialer(ctx, conn, route)
    else:
        proxy = route.proxy
        hop = connection.Server(address=(proxy.host, proxy.port))
        stack /= Dialer(ctx, hop, route)
        if proxy.type == "https":
            # The name stays the server name and is what the certificate is checked for.
            hop.sni = proxy.host
            hop.alpn_offers = tls.HTTP1_ALPNS
            stack /= ProxyTls(ctx, hop, route)
        if proxy.type == "socks5":
            stack /= Socks5Tunnel(ctx, hop, conn, route)
        elif forward:
            stack /= tunnel.TunnelLayer(ctx, hop, conn)
        else:
            stack /= ConnectTunnel(ctx, hop, conn, route)
    port = TunnelExit(ctx)
    stack /= port
    return stack[0], port
