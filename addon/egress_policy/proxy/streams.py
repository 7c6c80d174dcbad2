"""HTTP flows that have their connection: a list of them, and a way to end one without the others.

mitmproxy can end a connection, but not one stream of many on it. This module does what mitmproxy
does when a peer resets a stream: the layers of the stream and of its server connection get an
error. It comes as the answer to a command, since that is how an event finds one layer among many.
"""

import functools
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mitmproxy.proxy import commands, events, layer, server
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpLayer,
    HttpStream,
    RequestProtocolError,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http2 import Http2Client
from mitmproxy.utils import asyncio_utils

from ..log import get_logger
from .dialer import MintedServer
from .record import record_of, write_cut

logger = get_logger(__name__)

_under_way: weakref.WeakSet[HttpStream] = weakref.WeakSet()


class _EndRequest(commands.Command):
    """Stands for the end of a stream towards the server."""


class _EndResponse(commands.Command):
    """Stands for the end of a stream towards the client."""


@dataclass
class _RequestEnded(RequestProtocolError, events.CommandCompleted):
    command: _EndRequest = field(default_factory=_EndRequest)
    reply: None = None


@dataclass
class _ResponseEnded(ResponseProtocolError, events.CommandCompleted):
    command: _EndResponse = field(default_factory=_EndResponse)
    reply: None = None


def note(stream: HttpStream) -> None:
    """Remember a stream whose flow has its connection, as long as mitmproxy keeps the stream."""
    _under_way.add(stream)


def under_way() -> Iterator[tuple[HttpStream, MintedServer]]:
    """The streams that are not over, and the open connection that each runs on."""
    for stream in tuple(_under_way):
        record = record_of(stream.context.server)
        if record and record.hop and (stream.flow.live or stream.child_layer):
            yield stream, record.hop


def explain_cuts() -> None:
    """Let the flows whose connections were cut say so. The layers would say that the peer closed
    them."""
    for stream, hop in under_way():
        if hop.cut:
            write_cut(stream.flow, hop.cut_by or "policy")
            stream.handle_protocol_error = functools.partial(  # type: ignore[method-assign]
                _cut_off, stream, hop
            )


def _cut_off(
    stream: HttpStream, hop: MintedServer, event: RequestProtocolError | ResponseProtocolError
) -> layer.CommandGenerator[None]:
    if isinstance(event, ResponseProtocolError):
        event = ResponseProtocolError(event.stream_id, hop.cut_text, event.code)
    yield from HttpStream.handle_protocol_error(stream, event)


def end(
    handler: server.ConnectionHandler, stream: HttpStream, why: str, otherwise: Callable[[], None]
) -> None:
    """End one stream of a server connection: reset it there, and tell the client ``why``.

    Where that fails ``otherwise`` is called, since the flow must not go on.
    """

    async def tell() -> None:
        try:
            await _tell(handler, stream, why)
        except Exception:
            logger.exception("Egress: cannot end a stream; its connection is cut")
            otherwise()
            return
        if stream.flow.live and not stream._paused:  # noqa: SLF001 (paused, it ends when it goes on)
            otherwise()

    asyncio_utils.create_task(
        tell(), name="egress: end of a stream", keep_ref=True, client=handler.client.peername
    )


async def _tell(handler: server.ConnectionHandler, stream: HttpStream, why: str) -> None:
    http = http_layer_of(stream)
    if http is None or http.streams.get(stream.stream_id) is not stream:
        return  # it has ended meanwhile
    upstream = http.connections.get(stream.context.server)
    if upstream and not _was_queued(upstream, stream.stream_id):
        request = _RequestEnded(stream.stream_id, why, ErrorCode.CANCEL)
        _address(request.command, stream, upstream)
        await handler.server_event(request)
    response = _ResponseEnded(stream.stream_id, why, ErrorCode.CONNECT_FAILED)
    _address(response.command, stream, stream)
    await handler.server_event(response)


def _address(command: commands.Command, stream: HttpStream, to: layer.Layer) -> None:
    """Let the answer to ``command`` find ``to``. A CONNECT has an HTTP layer more above it."""
    layers = stream.context.layers
    for above, below in itertools.pairwise(layers):
        if isinstance(above, HttpLayer):
            above.command_sources[command] = to if below is stream else below


def http_layer_of(stream: HttpStream) -> HttpLayer | None:
    """The layer that keeps the connections for a stream."""
    layers = stream.context.layers
    above = layers[layers.index(stream) - 1] if stream in layers else None
    return above if isinstance(above, HttpLayer) else None


def _was_queued(upstream: layer.Layer, stream_id: int) -> bool:
    """Whether a stream waited until the server allows another one. It is taken out of the queue;
    nothing of it was sent."""
    below: layer.Layer | None = upstream
    while below is not None and not isinstance(below, Http2Client):
        below = getattr(below, "child_layer", None)
    return below is not None and below.stream_queue.pop(stream_id, None) is not None
