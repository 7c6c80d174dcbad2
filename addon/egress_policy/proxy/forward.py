"""Plain HTTP through an http or https proxy without CONNECT: requests in absolute form.

RFC 9112 section 3.2.2. The rewritten head, with the proxy's credentials, exists on the wire only;
the flow keeps the request as the client sent it. Where the proxy answers in another protocol than
HTTP, the request is refused, just as where the proxy answers CONNECT like that.
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

from ..model.decision import Egress
from ..model.host import normalize_target_host, url_host
from ..model.proxy import Proxy
from ..policy.fault import Cause
from ..policy.hop import UNANSWERED, broken, is_forwarded
from ..wire.http_connect import ConnectError, basic_credentials, begins_as_http
from .altered import altered
from .passing import PassingLayer
from .record import record_of
from .refusal import RefusalText, refusal_of

_STATUS_LINE = 24
"""Bytes of an answer in which its status has come."""
_SWITCHES = re.compile(rb"HTTP/1\.\d +101(?!\d)")
Fields = tuple[tuple[bytes, bytes], ...]
_HOP_HEADERS = (b"proxy-authorization", b"proxy-connection")


class ForwardRequests(PassingLayer):
    """Rewrites each request head on its way to the connection below, and looks at the first bytes
    of each answer: where the proxy speaks another protocol, the stream gets an error that carries
    the refusal (``RefusalText``)."""

    child_layer: layer.Layer

    def __init__(self, ctx: context.Context, egress: Egress) -> None:
        super().__init__(ctx)
        if egress.proxy is None:
            raise ValueError("a direct egress has no proxy to forward to")
        self.egress, self.proxy = egress, egress.proxy
        self._stream_id = 0
        self._first: bytes | None = None
        """The beginning of an answer; ``None`` once it is known as HTTP, or where none is due."""
        self._refused = False
        """The stream has its refusal. What the proxy sent beyond that may look like an answer."""

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestHeaders):
            self._stream_id, self._first = event.stream_id, b""
            event = altered(event, request=absolute_form(event.request, self.proxy))
        elif isinstance(event, events.DataReceived) and self._refused:
            return
        elif isinstance(event, events.DataReceived) and self._first is not None:
            try:
                self._look_at(event.data)
            except ConnectError as error:
                yield from self._refuse(event.connection, error.text)
                return
        elif isinstance(event, events.ConnectionClosed) and self._is_silent(event.connection):
            yield from self._unanswered(event)
            return
        yield from self.child_layer.handle_event(event)

    _handle_event = handle_event

    def _is_silent(self, conn: connection.Connection) -> bool:
        """Whether an answer is due, nothing of it came, and it was not this process that ended the
        connection."""
        record = record_of(conn)
        return self._first == b"" and not (record and record.hop and record.hop.cut)

    def _look_at(self, data: bytes) -> None:
        first = ((self._first or b"") + data).lstrip(b"\r\n")[:_STATUS_LINE]
        known = begins_as_http(first, "the request") and (
            b"\n" in first or len(first) == _STATUS_LINE
        )
        if _SWITCHES.match(first):
            raise ConnectError("it answers 101 and wants to speak a protocol that nobody proposed")
        self._first = None if known else first

    def _unanswered(self, event: events.ConnectionClosed) -> layer.CommandGenerator[None]:
        """Let the error about the end of a connection say that the proxy did not answer at all."""
        self._first = None
        text = RefusalText(refusal_of(self.egress, UNANSWERED), UNANSWERED)
        for command in self.child_layer.handle_event(event):
            if isinstance(command, ReceiveHttp):
                told = command.event
                if isinstance(told, ResponseProtocolError):
                    told = ResponseProtocolError(told.stream_id, text, told.code)
                command = ReceiveHttp(told)
            yield command

    def _refuse(self, hop: connection.Connection, why: str) -> layer.CommandGenerator[None]:
        self._first, self._refused = None, True
        failure = broken(why, Cause.UNDECIDED)  # the target may have said so
        text = RefusalText(refusal_of(self.egress, failure), failure)
        yield commands.CloseConnection(hop)
        yield ReceiveHttp(
            ResponseProtocolError(self._stream_id, text, ErrorCode.GENERIC_SERVER_ERROR)
        )


def absolute_form(request: http.Request, proxy: Proxy) -> http.Request:
    """The request in the form for the proxy. The flow keeps its own."""
    host = url_host(normalize_target_host(request.host))
    authority = url.hostport(request.scheme, host, request.port).encode("utf-8", "surrogateescape")
    data = altered(request.data, authority=authority)
    data.headers = http.Headers(_fields(request.headers.fields, authority, proxy))
    if data.path == b"*":  # has no path in absolute form, RFC 9112 section 3.2.4
        data.path = b""
    return altered(request, data=data)


def _fields(sent: Fields, authority: bytes, proxy: Proxy) -> Iterator[tuple[bytes, bytes]]:
    """The header fields for the proxy: the target as the only host, whatever the client sent
    (RFC 9112 section 3.2.2), and the account of this proxy, never that of another."""
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


def forwards(request: http.Request, egress: Egress) -> bool:
    """Whether a request by this egress goes to the proxy in absolute form, without CONNECT."""
    return is_forwarded(
        egress,
        request.scheme,
        request.host,
        method=request.method,
        path=request.path,
        version=request.http_version,
        upgrade=request.headers.get("upgrade", ""),
    )
