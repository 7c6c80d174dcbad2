"""Plain HTTP through an http or https proxy without CONNECT: requests in absolute form.

RFC 9112 section 3.2.2. The rewritten head, with the proxy's credentials, exists on the wire only;
the flow keeps the request as the client sent it. A proxy that answers in another protocol than HTTP
is the cause of a refusal, as it is where it is asked to CONNECT.
"""

import re
from collections.abc import Iterator

from mitmproxy import connection, http
from mitmproxy.net.http import url
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    ReceiveHttp,
    RequestHeaders,
    ResponseProtocolError,
)

from ..errors import Reason
from ..model.decision import Refusal
from ..model.host import normalize_target_host, url_host
from ..model.proxy import Proxy
from ..wire.http_connect import ConnectError, basic_credentials, begins_as_http
from .altered import altered
from .refusal import RefusalText

_STATUS_LINE = 24
"""Bytes of an answer in which its status has come."""
_SWITCHES = re.compile(rb"HTTP/1\.\d +101(?!\d)")
Fields = tuple[tuple[bytes, bytes], ...]
_HOP_HEADERS = (b"proxy-authorization", b"proxy-connection")


class ForwardRequests(layer.Layer):
    """Rewrites each request head on its way to the connection below, and looks at the first bytes
    of each answer: a stream whose proxy speaks another protocol is told of an error that carries
    the refusal (``RefusalText``)."""

    child_layer: layer.Layer

    def __init__(self, ctx: context.Context, proxy: Proxy) -> None:
        super().__init__(ctx)
        self.proxy = proxy
        self._stream_id = 0
        self._first: bytes | None = None
        """What has come of an answer; ``None`` once it is known to be one, or none is due."""

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestHeaders):
            self._stream_id, self._first = event.stream_id, b""
            event = altered(event, request=absolute_form(event.request, self.proxy))
        elif isinstance(event, events.DataReceived) and self._first is not None:
            try:
                self._look_at(event.data)
            except ConnectError as error:
                yield from self._refuse(event.connection, str(error))
                return
        yield from self.child_layer.handle_event(event)

    _handle_event = handle_event

    def _look_at(self, data: bytes) -> None:
        first = ((self._first or b"") + data).lstrip(b"\r\n")[:_STATUS_LINE]
        known = begins_as_http(first, "the request") and (
            b"\n" in first or len(first) == _STATUS_LINE
        )
        if _SWITCHES.match(first):
            raise ConnectError("it answers 101 and wants to speak a protocol that nobody proposed")
        self._first = None if known else first

    def _refuse(self, hop: connection.Connection, why: str) -> layer.CommandGenerator[None]:
        self._first = None
        proxy = self.proxy
        refusal = Refusal(
            Reason.HANDSHAKE_FAILED,
            f"Proxy {proxy.name}: {why}; refusing to egress",
            proxy.name,
            proxy.family,
            proxy.host,
        )
        yield commands.CloseConnection(hop)
        yield ReceiveHttp(
            ResponseProtocolError(
                self._stream_id, RefusalText(refusal), ErrorCode.GENERIC_SERVER_ERROR
            )
        )


def absolute_form(request: http.Request, proxy: Proxy) -> http.Request:
    """A request as the proxy wants it, beside the one that the flow keeps."""
    host = url_host(normalize_target_host(request.host))
    authority = url.hostport(request.scheme, host, request.port).encode("utf-8", "surrogateescape")
    data = altered(request.data, authority=authority)
    data.headers = http.Headers(_fields(request.headers.fields, authority, proxy))
    if data.path == b"*":  # has no path in absolute form, RFC 9112 section 3.2.4
        data.path = b""
    return altered(request, data=data)


def _fields(sent: Fields, authority: bytes, proxy: Proxy) -> Iterator[tuple[bytes, bytes]]:
    """The header fields: one host, that of the target whatever was sent (RFC 9112 section 3.2.2),
    and what the proxy is to know of its client, which is the account for it."""
    has_host = False
    for name, value in sent:
        lower = name.lower()
        if lower == b"host":
            if not has_host:
                yield name, authority
            has_host = True
        elif lower not in _HOP_HEADERS:
            yield name, value
    if proxy.username or proxy.password.get_secret_value():
        account = basic_credentials(proxy.username, proxy.password.get_secret_value())
        yield b"proxy-authorization", account.encode()
    if not has_host:
        yield b"host", authority


def wants_tunnel(request: http.Request) -> bool:
    """Requests that do not survive an ordinary HTTP hop: upgrades, anything but HTTP/1, and what
    would read differently within a URL.

    TRACE does, but who answers it repeats the request with the proxy's credentials in it (RFC 9110
    section 9.3.8), and a proxy may be who answers.
    """
    upgrade = request.headers.get("upgrade", "").lower()
    return (
        bool(upgrade and upgrade != "h2c")
        or not request.http_version.startswith("HTTP/1")
        or request.method.upper() == "TRACE"
        or not _fits_url(request)
    )


def _fits_url(request: http.Request) -> bool:
    """Whether the proxy finds the host that was decided about in the absolute form, no other.

    An addon may set a path without its slash. A scope id means nothing to a proxy, which might
    leave it out.
    """
    path = request.data.path
    return "%" not in request.host and (path.startswith(b"/") or path == b"*")
