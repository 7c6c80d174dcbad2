"""Sends a request once more, where its proxy closed the connection without a byte of an answer.

RFC 9110 section 9.2.2: what is idempotent may be sent again. mitmproxy keeps the body of a request
that is not streamed, and this does what mitmproxy does once such a request has its connection.
"""

from typing import Final

from mitmproxy.proxy import layer
from mitmproxy.proxy.layers.http import (
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    SendHttp,
)

from ..policy.hop import UNANSWERED, HopFailure

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


def may_be_sent_again(stream: HttpStream, failure: HopFailure | None) -> bool:
    """Whether the whole request is here, nothing of an answer came, and repeating it is safe."""
    request = stream.flow.request
    return (
        failure is UNANSWERED
        and request.method.upper() in _IDEMPOTENT
        and not request.stream
        and stream.flow.response is None
        and stream.client_state == stream.state_done
        and stream.server_state == stream.state_wait_for_response_headers
    )


def send(stream: HttpStream) -> layer.CommandGenerator[None]:
    """Send the request of a stream over its connection."""
    request, server, id_ = stream.flow.request, stream.context.server, stream.stream_id
    content, trailers = request.raw_content, request.trailers
    yield SendHttp(RequestHeaders(id_, request, not (content or trailers)), server)
    if content:
        yield SendHttp(RequestData(id_, content), server)
    if trailers:
        yield SendHttp(RequestTrailers(id_, trailers), server)
    yield SendHttp(RequestEndOfMessage(id_), server)
