"""The seams: where this project reaches into mitmproxy's core.

1. ``wrap`` puts an ``EgressRoot`` around the layers of a live connection.
2. ``HttpUpstreamProxy.make``, which builds the layers behind a ``via``, is replaced: the new
   function puts an ``EgressRoot`` there. Client replay, which has no root of its own, enters here.
3. ``HttpStream.make_server_connection`` is replaced: the new function asks for a decision first,
   and again when there is a connection. It runs after the last edit of a flow, live and on replay,
   streamed or not, and never for a flow that another addon answered. A refusal becomes the flow's
   response here. ``streams.py`` keeps track of flows under way and can end them; ``echo.py``
   removes accounts from the answers that flows get.
4. mitmproxy's log of connections leaves out attempts that were ended here, such as one that lost
   against another address.

``check`` compares what is replaced with what is known. The addon does not start if they differ.
"""

import asyncio
import dataclasses
import functools
import inspect
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Set
from typing import Any

from mitmproxy import connection, exceptions, http, optmanager, version
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.proxy import context, events, layer, server, tunnel
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    HttpLayer,
    HttpResponseHeadersHook,
    HttpStream,
    RequestHeaders,
    RequestProtocolError,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http2 import Http2Client
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy
from mitmproxy.utils import asyncio_utils, typecheck

from ..model.decision import Choice, Egress, Refusal
from ..policy.hop import LEFT
from . import dispatch, echo, forward, resend
from .altered import altered
from .dialer import GIVEN_UP
from .questions import Decide, FlowRequest, answer_with, ask, report_answer
from .record import (
    keep,
    record_of,
    taken_key,
    write_choice,
    write_connection,
    write_refusal,
)
from .refusal import UNANSWERED, UNSETTLED, RefusalText, problem_response
from .refusal_log import note_refusal, start_afresh
from .root import EgressRoot
from .streams import http_layer_of, note
from .via import choice_in, is_forward, via_for

SUPPORTED = ((12, 2), (14,))
"""The first supported mitmproxy version, and the first one after it that is not supported."""

_KNOWN: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...] = (
    ("HttpUpstreamProxy.make", HttpUpstreamProxy.make, ("ctx", "send_connect")),
    ("HttpStream.make_server_connection", HttpStream.make_server_connection, ("self",)),
    ("HttpStream.handle_protocol_error", HttpStream.handle_protocol_error, ("self", "event")),
    ("HttpStream.send_response", HttpStream.send_response, ("self", "already_streamed")),
    ("HttpStream.check_killed", HttpStream.check_killed, ("self", "emit_error_hook")),
    ("HttpStream.flow_done", HttpStream.flow_done, ("self",)),
    ("GetHttpConnection", GetHttpConnection, ("address", "tls", "via", "transport_protocol")),
    (
        "ConnectionHandler.open_connection",
        server.ConnectionHandler.open_connection,
        ("self", "command"),
    ),
)

_ATTRIBUTES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (HttpLayer, ("command_sources", "connections", "streams")),
    (Http2Client, ("stream_queue",)),
    (layer.Layer, ("_paused", "_paused_event_queue")),
)

_COPIED: tuple[type, ...] = (
    connection.Server,
    http.Request,
    http.RequestData,
    RequestHeaders,
)
"""Classes whose objects ``altered`` copies by their ``__dict__``."""

_rooted: weakref.WeakValueDictionary[str, server.ConnectionHandler] = weakref.WeakValueDictionary()
"""The handlers that have a root around their layers, by the id of their client. The client of a
replayed flow may equal one."""

ROUNDS = 5
"""How many decisions a flow gets while the policy changes under it."""

_installed = 0
_originals: tuple[Any, Any] = (
    HttpUpstreamProxy.__dict__["make"],
    HttpStream.__dict__["make_server_connection"],
)


def check(running: str = version.VERSION) -> str | None:
    """The reason why the running mitmproxy is not supported, ``None`` if it is."""
    numbers = tuple(int(part) for part in running.split(".")[:2] if part.isdigit())
    first, beyond = SUPPORTED
    if not first <= numbers < beyond:
        return f"mitmproxy {running} is not supported; use 12.2 or later, below 14"
    for name, function, parameters in _KNOWN:
        if tuple(inspect.signature(function).parameters) != parameters:
            return f"mitmproxy {running} is not supported: {name} has changed"
    for owner, names in _ATTRIBUTES:
        if missing := set(names) - inspect.get_annotations(owner).keys():
            what = f"{owner.__name__} has no {', '.join(sorted(missing))}"
            return f"mitmproxy {running} is not supported: {what}"
    for copied in _COPIED:
        if not copied.__dictoffset__:
            return f"mitmproxy {running} is not supported: {copied.__name__} has no __dict__"
    return None


def drop_bad_deferred(options: optmanager.OptManager, names: Set[str]) -> dict[str, str]:
    """Remove values of ``--set`` that mitmproxy would fail on silently.

    A value that does not parse ends the task that loads scripts, and mitmproxy listens without
    them. Returns what is wrong with each value, by name.
    """
    messages = {}
    for name in names & options.deferred.keys():
        value = options.deferred[name]
        option = options._options[name]  # noqa: SLF001 (there is no public way to ask)
        try:
            if isinstance(value, optmanager._UnconvertedStrings):  # noqa: SLF001
                value = options._parse_setval(option, value.val)  # noqa: SLF001
            typecheck.check_option_type(name, value, option.typespec)
        except (exceptions.OptionsError, TypeError) as error:
            messages[name] = str(error)
            del options.deferred[name]
    return messages


def install(decide: Decide) -> None:
    """Replace both functions. Each call needs a ``restore``; the latest ``decide`` counts."""
    global _installed
    answer_with(decide)
    if _installed == 0:
        start_afresh()
        server.logger.addFilter(_is_news)
        HttpUpstreamProxy.make = staticmethod(make)  # type: ignore[method-assign]
        HttpStream.make_server_connection = make_server_connection  # type: ignore[method-assign]
    _installed += 1


def restore() -> None:
    """Undo one ``install``; the last call puts mitmproxy's own functions back."""
    global _installed
    _installed = max(0, _installed - 1)
    if _installed == 0:
        answer_with()
        server.logger.removeFilter(_is_news)
        HttpUpstreamProxy.make = _originals[0]  # type: ignore[method-assign]
        HttpStream.make_server_connection = _originals[1]  # type: ignore[method-assign]


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of mitmproxy's log is about more than an attempt that was given up."""
    return GIVEN_UP not in record.getMessage()


def wrap(handler: server.ConnectionHandler) -> None:
    """Put a root around the layers of a connection that has not started yet."""
    _rooted[handler.client.id] = handler
    handler.layer = EgressRoot(handler.layer.context, handler.layer)
    dispatch.take_over(handler)


def handler_of(client: connection.Client) -> server.ConnectionHandler | None:
    """The handler that has a root around the layers of this client."""
    handler = _rooted.get(client.id)
    return handler if handler and handler.client is client else None


def opener() -> server.ConnectionHandler | None:
    """The handler that opens the connection whose hook is running. mitmproxy keeps no list of the
    handlers that replay flows."""
    opening = server.ConnectionHandler.open_connection.__code__
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is opening:
            handler: server.ConnectionHandler = frame.f_locals["self"]
            return handler
        frame = frame.f_back
    return None


def abort(handler: server.ConnectionHandler, hop: connection.Server) -> Callable[[object], None]:
    """A callback that closes a connection's socket at once when its task has ended. mitmproxy would
    first wait for the peer to read the rest of the data."""
    entry = handler.transports.get(hop)
    writer = entry.writer if entry else None

    def now(_: object) -> None:
        if isinstance(writer, asyncio.StreamWriter):
            writer.transport.abort()

    return now


def tell_end(handler: server.ConnectionHandler, lost: connection.Server) -> None:
    """Tell the layers that a connection is closed if its task ended without saying so."""
    entry = handler.transports.pop(lost, None)
    if entry and entry.writer:
        entry.writer.close()
    lost.state = connection.ConnectionState.CLOSED
    asyncio_utils.create_task(
        handler.server_event(events.ConnectionClosed(lost)),
        name=f"end of a lost connection {lost.address}",
        keep_ref=True,
        client=handler.client.peername,
    )


def make(ctx: context.Context, send_connect: bool) -> tunnel.LayerStack:  # noqa: ARG001
    """The layers behind a ``via``: a root, unless an outer layer is one already, and for plain HTTP
    the layer that forwards.

    ``send_connect`` is mitmproxy's guess about forwarding; the ``via`` itself knows better.
    """
    stack = tunnel.LayerStack()
    choice = choice_in(ctx.server.via)
    if choice is None or handler_of(ctx.client) is None:
        stack /= EgressRoot(ctx)
    if is_forward(ctx.server.via) and choice and choice.egress and choice.egress.proxy:
        stack /= forward.ForwardRequests(ctx, choice.egress)
    return stack


def make_server_connection(self: HttpStream) -> layer.CommandGenerator[bool]:
    """Get the flow a connection by the egress that the policy names, or answer the 503.

    Waiting for a connection takes time, and mitmproxy may hand out one that another flow opened. So
    the policy decides again once there is a connection, until decision and connection agree.
    """
    taken = _taken(self.context.server, self.flow.request)
    held = functools.partial(_held, self)
    return (yield from _connect(self, _chosen(FlowRequest(self.flow, taken, held))))


def _connect(stream: HttpStream, choice: Choice) -> layer.CommandGenerator[bool]:
    flow, rounds = stream.flow, 0
    try:
        while rounds < ROUNDS:
            rounds += 1
            if choice.egress is None:
                return (yield from _refuse(stream, choice.refusal or UNANSWERED))
            about = _about(flow.request)
            wanted = _connection_for(stream, choice, choice.egress)
            conn, error = yield wanted
            choice.purpose.target = None  # from here on the flow is judged by itself
            choice.dropped()  # its connection may be one that was open, or that another flow opened
            if conn is None and (cut := _cut(stream, wanted)):
                error = RefusalText(cut)
            key = taken_key(conn) if conn else None
            before, same = choice, _about(flow.request) == about
            choice = _chosen(FlowRequest(flow, key, before=before if same else None))
            if conn is not None:
                if (
                    choice.egress
                    and choice.egress.key == key
                    and _about(flow.request)[:3] == about[:3]
                ):
                    if _is_unwanted(stream) and (yield from stream.check_killed(True)):
                        _leave(conn)
                        return False  # mitmproxy would send it for a moment all the same
                    _use(stream, conn, choice)
                    return True
                _leave(conn)
            elif choice is before and not isinstance(error, RefusalText):
                yield from stream.handle_protocol_error(
                    ResponseProtocolError(stream.stream_id, error, ErrorCode.CONNECT_FAILED)
                )
                return False
            if (yield from stream.check_killed(True)):
                return False  # nobody waits for another attempt
            if choice is before and isinstance(error, RefusalText):
                # Another flow may have opened it, by another rule for the same egress.
                failed = dataclasses.replace(error.refusal, rule=choice.rule)
                choice = _chosen(FlowRequest(flow, before=choice, failed=failed))
                rounds -= 1  # the policy did not change, and it limits the attempts
    finally:
        choice.dropped()
    return (yield from _refuse(stream, UNSETTLED))


def _cut(stream: HttpStream, wanted: GetHttpConnection) -> Refusal | None:
    """Why the connection was cut that was made for a flow, and perhaps for others with it. TLS with
    the target takes that end for one by the peer, and mitmproxy would answer each later flow of the
    client with it, so it is forgotten here."""
    http_ = http_layer_of(stream)
    for conn in reversed(http_.connections if http_ else {}):
        if isinstance(conn, connection.Server) and wanted.connection_spec_matches(conn):
            record = record_of(conn)
            if record and record.hop and record.hop.cut:
                conn.error = None
                return record.hop.cut_refusal()
            return None
    return None


def _is_unwanted(stream: HttpStream) -> bool:
    """Whether the flow may have been killed, or its client have left, while it waited."""
    return stream.flow.error is not None or bool(stream._paused_event_queue)  # noqa: SLF001


def _leave(conn: connection.Server) -> None:
    """A flow does not use the connection that it was given: it will not see whether the proxy
    answers."""
    if (record := record_of(conn)) and record.route and record.opened:
        opened, record.opened = record.opened, None
        report_answer(record.route, opened, LEFT)


def _about(request: http.Request) -> tuple[object, ...]:
    """What the decision depends on. An addon may edit it while the flow waits. The first three
    parts say what a connection is for."""
    data = request.data
    return data.host, data.port, data.scheme, data.method, data.path, data.headers.fields


def _chosen(request: FlowRequest) -> Choice:
    ask(request)
    if request.answer is not None:
        return request.answer
    choice = Choice(refusal=UNANSWERED)
    write_choice(request.flow, choice)  # the flow still has the previous decision
    return choice


def _connection_for(stream: HttpStream, choice: Choice, egress: Egress) -> GetHttpConnection:
    """The command that gets a connection by ``egress``: the client's own one if it is free, else
    one that is distinguished from others by its ``via``."""
    flow, opened = stream.flow, stream.context.server
    via: ServerSpec | None
    if egress.key == _taken(opened, flow.request) and _is_free(stream.context.client, opened):
        via = opened.via
    else:
        via = via_for(choice, egress, forward.forwards(flow.request, egress))
    return GetHttpConnection(
        (flow.request.host, flow.request.port),
        flow.request.scheme == "https",
        via,
        flow.server_conn.transport_protocol,
    )


def _use(stream: HttpStream, conn: connection.Server, choice: Choice) -> None:
    stream.context.server = conn
    stream.flow.server_conn = _without_via(conn)
    write_connection(stream.flow, conn)
    note(stream)
    echo.keep_out_of(stream, conn)
    record = record_of(conn)
    if record:
        record.opened = None  # the flow, which is the first, has it now
    if record and record.choice:
        record.choice.purpose.target = None
    if record and record.forwards:
        stream.handle_protocol_error = functools.partial(  # type: ignore[method-assign]
            _protocol_error, stream, choice
        )


def _protocol_error(
    stream: HttpStream,
    choice: Choice,
    event: RequestProtocolError | ResponseProtocolError,
) -> layer.CommandGenerator[None]:
    """Send the request by another egress, or answer the 503, if a forwarding proxy did not answer
    in HTTP."""
    flow, text = stream.flow, event.message
    record = record_of(flow.server_conn)
    if isinstance(text, RefusalText) and record and record.route and text.failure:
        opened, record.opened = record.opened, None
        report_answer(record.route, opened, text.failure)
    if not isinstance(text, RefusalText) or flow.response is not None:
        yield from HttpStream.handle_protocol_error(stream, event)
        return
    stream.handle_protocol_error = functools.partial(  # type: ignore[method-assign]
        HttpStream.handle_protocol_error, stream
    )
    if (yield from stream.check_killed(True)):
        return
    refusal = dataclasses.replace(text.refusal, rule=choice.rule)
    if choice.pool:
        if not resend.may_be_sent_again(stream, text.failure):
            refusal = dataclasses.replace(refusal, fails_over=False)
        choice = _chosen(FlowRequest(flow, before=choice, failed=refusal))
        connected = yield from _connect(stream, choice)
        if connected and not (yield from stream.check_killed(True)):
            yield from resend.send(stream)
    else:
        yield from _refuse(stream, refusal)


def _taken(conn: connection.Server, request: http.Request) -> str | None:
    """The egress of the connection that was opened for the client, if the request can use it.

    A connection whose TLS failed counts: its error is the answer, as in mitmproxy itself, and
    another egress would only dial the target again. The flow's own idea of its connection is no
    proof: on replay that connection belongs to another client.
    """
    same = conn.address == (request.host, request.port) and conn.tls == (request.scheme == "https")
    return taken_key(conn) if same and (conn.connected or _has_failed(conn)) else None


def _held(stream: HttpStream) -> Iterator[str]:
    """The egresses by which the client has an open connection that its request could use."""
    layer_, request = http_layer_of(stream), stream.flow.request
    target = request.host, request.port
    for conn in layer_.connections if layer_ else ():
        fits = conn.connected and conn.tls == (request.scheme == "https")
        if isinstance(conn, connection.Server) and fits and conn.address == target:
            yield from filter(None, (taken_key(conn),))


def _has_failed(conn: connection.Server) -> bool:
    record = record_of(conn)
    was_cut = record and record.hop and record.hop.cut  # which says nothing about the target
    return bool(conn.error and not was_cut and not (record and record.ended_early))


def _is_free(client: connection.Client, conn: connection.Server) -> bool:
    """Whether mitmproxy would give the connection to another flow. A connection without
    multiplexing serves only the first stream of an HTTP/2 client. mitmproxy would then open a new
    one without ``via``, by whatever egress is chosen for that connection."""
    record = record_of(conn)
    return client.alpn != b"h2" or conn.alpn == b"h2" or not (record and record.flows)


def _without_via(conn: connection.Server) -> connection.Server:
    """The connection in the form that a flow may keep: replay would obey a stored ``via``."""
    if conn.via is None:
        return conn
    # Nobody updates the copy, and mitmproxy cannot replay what says that it is open. It has the id
    # of the connection, so the two are equal.
    stored = altered(conn, via=None, state=connection.ConnectionState.CLOSED)
    if record := record_of(conn):  # a flow keeps nothing that leads to the tasks of a connection
        keep(stored, altered(record, hop=None, planned=None))
    return stored


def _refuse(stream: HttpStream, refusal: Refusal) -> layer.CommandGenerator[bool]:
    """Answer the flow as if an addon had set its response, even while its body is streamed."""
    flow = stream.flow
    write_refusal(flow, refusal)
    note_refusal(refusal, None if flow.is_replay else flow.client_conn)
    if flow.server_conn.via is not None:
        flow.server_conn = connection.Server(address=flow.server_conn.address)
    flow.response = problem_response(refusal, flow.id, flow.request)
    if flow.request.method.upper() == "HEAD":
        flow.response.data.content = b""  # content-length stays, RFC 9110 section 9.3.2
    flow.response.timestamp_start = time.time()
    yield HttpResponseHeadersHook(flow)
    if (yield from stream.check_killed(True)):
        return False
    flow.response.stream = False
    yield from stream.send_response()
    if stream.client_state != stream.state_done and flow.live:
        yield from stream.flow_done()
    return False
