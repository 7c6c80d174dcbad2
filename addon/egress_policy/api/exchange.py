"""One request and its answer over a connection: HTTP/1.1 as h11 reads and writes it.

A connection has one request. No part of a body is read before ``read_body`` is called: the head
decides whether it ever is.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

import h11

from ..sentence import Sentence
from .calls import Headers, Request, Response
from .listener import ClientConnection
from .problems import Problem

HEAD_LIMIT: Final = 16 * 1024
"""Bytes of a request line and its headers."""
HEAD_TIME: Final = 10.0
BODY_TIME: Final = 30.0
"""Seconds for the whole head, and then for the whole body."""

_QUERY_FIELDS: Final = 100
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}
_NO_BODY: Final = frozenset({204, 304})


class Exchange:
    """Every method raises ``OSError`` if the peer is gone or too slow."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._is_head = False

    async def read_head(self) -> Request:
        """The request without its body. Raises ``Problem`` for what is not HTTP."""
        async with asyncio.timeout(HEAD_TIME):
            event = await self._event()
        if not isinstance(event, h11.Request):
            raise ConnectionError  # closed before it asked for anything
        self._is_head = event.method == b"HEAD"
        path, _, query = event.target.decode("latin-1").partition("?")
        headers = Headers((name.decode(), value.decode("latin-1")) for name, value in event.headers)
        return Request(event.method.decode(), path, _parse_query(query), headers)

    async def read_body(self) -> bytes:
        """The body, as long as the head says. Raises ``Problem`` for what is not HTTP."""
        found = bytearray()
        async with asyncio.timeout(BODY_TIME):
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            while isinstance(event := await self._event(), h11.Data):
                found += event.data
        if isinstance(event, h11.ConnectionClosed):
            raise ConnectionError
        return bytes(found)

    async def send(self, answer: Response) -> None:
        """Send all of it. A stream ends when the peer goes."""
        content = answer.content
        if isinstance(content, AsyncGenerator):
            async with contextlib.aclosing(content):
                await self._send(_head(answer, None))
                if not self._is_head:
                    await self._connection.while_open(self._stream(content))
        else:
            body = answer.encoded()
            has_body = body and not self._is_head
            data = [h11.Data(data=body)] if has_body else []
            await self._send(_head(answer, len(body)), *data, h11.EndOfMessage())

    async def _stream(self, content: AsyncGenerator[bytes]) -> None:
        async for piece in content:
            if piece:
                await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next complete event."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._connection.receive())
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            why = Sentence("request_unusable", "This request cannot be served")
            raise Problem(status, "INVALID_REQUEST", why) from error
        return event

    async def _send(self, *events: h11.Event) -> None:
        await self._connection.send(b"".join(self._http.send(event) or b"" for event in events))


def _head(answer: Response, length: int | None) -> h11.Response:
    """``length`` is that of the body, ``None`` of a stream."""
    headers = {**_HEADERS, "Date": formatdate(usegmt=True)}
    if length is None or length:
        headers["Content-Type"] = answer.type_
    if length is not None and answer.status not in _NO_BODY:
        headers["Content-Length"] = str(length)
    if answer.etag is not None:
        headers["ETag"] = f'"{answer.etag}"'
    headers |= answer.headers
    reason = HTTPStatus(answer.status).phrase.encode()
    return h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason)


def _parse_query(query: str) -> tuple[tuple[str, str], ...]:
    """Names and values in their order, percent-decoded."""
    try:
        return tuple(
            parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS)
        )
    except ValueError as error:
        why = Sentence("query_unreadable", "This query cannot be read")
        raise Problem(400, "INVALID_REQUEST", why) from error
