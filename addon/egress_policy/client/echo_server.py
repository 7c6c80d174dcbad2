"""An echo of one's own: an HTTP server that answers the address from which it was asked.

It answers by the connection alone. What headers say about a client is never believed, so nothing
but TCP may stand between it and the proxies that it looks at. Strangers may ask it: each connection
has one request, little time and little memory, and a newcomer takes the place of the oldest.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qs

import h11

from ..model.settings import Listen
from ..policy.hop import plain_address
from .signed_echo import NONCE_PARAMETER, is_nonce, signed_answer

_HEADERS: Final = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}
_ANY_FIELDS: Final = 20


@dataclass(frozen=True, slots=True)
class EchoLimits:
    """Open connections, bytes of a request's head, seconds from the connection to the answer."""

    connections: int = 256
    head: int = 8192
    seconds: float = 10.0


STANDARD: Final = EchoLimits()


class EchoServer:
    """Signs with ``key``. ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        key: bytes,
        limits: EchoLimits = STANDARD,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key, self._limits, self._clock = key, limits, clock
        self._open: dict[asyncio.StreamWriter, None] = {}
        self._server: asyncio.Server | None = None
        self.address: tuple[str, int] = ("", 0)
        """IP literal and port."""

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def start(self, listen: Listen) -> None:
        """Listen; at ``::`` for both families. Raises ``OSError``."""
        bound = _listening(listen)
        self.address = bound.getsockname()[:2]
        self._server = await asyncio.start_server(self._visit, sock=bound, limit=self._limits.head)

    async def aclose(self) -> None:
        """Close the port and all connections."""
        if self._server:
            self._server.close()
            for writer in tuple(self._open):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if self.open > self._limits.connections:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            with contextlib.suppress(OSError):  # it has gone, or is too slow
                async with asyncio.timeout(self._limits.seconds):
                    await self._serve(reader, writer)
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(self._limits.head))
        except h11.RemoteProtocolError as error:
            writer.write(_reply(http, error.error_status_hint, {"error": "this is no request"}))
        else:
            peer = writer.get_extra_info("peername")
            if not isinstance(event, h11.Request) or peer is None:
                return
            status, said = self._answer(event, plain_address(peer[0]))
            writer.write(_reply(http, status, said, is_head=event.method == b"HEAD"))
        await writer.drain()

    def _answer(self, request: h11.Request, address: str) -> tuple[int, dict[str, Any]]:
        if request.method not in (b"GET", b"HEAD"):
            return 405, {"error": "only GET is answered"}
        _, _, query = request.target.decode("latin-1").partition("?")
        try:
            nonces = parse_qs(query, max_num_fields=_ANY_FIELDS).get(NONCE_PARAMETER)
        except ValueError:
            nonces = [""]
        if nonces is None:
            return 200, {"ip": address}
        if len(nonces) != 1 or not is_nonce(nonces[0]):
            return 400, {"error": "one nonce of 16 to 128 letters, digits, - and _ is expected"}
        return 200, signed_answer(self._key, nonces[0], address, int(self._clock()))


def _reply(
    http: h11.Connection, status: int, said: dict[str, Any], *, is_head: bool = False
) -> bytes:
    body = json.dumps(said).encode() + b"\n"
    headers = [*_HEADERS.items(), ("Content-Length", str(len(body)))]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    reason = HTTPStatus(status).phrase.encode()
    events: list[h11.Event] = [h11.Response(status_code=status, headers=headers, reason=reason)]
    if not is_head:
        events.append(h11.Data(data=body))
    return b"".join(http.send(event) or b"" for event in [*events, h11.EndOfMessage()])


def _listening(listen: Listen) -> socket.socket:
    """A socket that listens there, and at ``::`` for both families where the system can do so."""
    is_ipv6 = ":" in listen.host
    both = is_ipv6 and ip_address(listen.host).is_unspecified and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    return socket.create_server((listen.host, listen.port), family=family, dualstack_ipv6=both)
