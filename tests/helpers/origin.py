"""Origins: HTTP/1.1, HTTP/2, WebSocket, TCP and UDP servers that report what reached them."""

import asyncio
import contextlib
import json
import ssl
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.events
import h2.settings
import h11
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

from tests.helpers.certs import authority
from tests.helpers.h11_stream import H11Stream
from tests.helpers.server import LabServer, family_of

NAMES = ("origin.test", "other.test", "localhost", "127.0.0.1", "::1")
"""The names in the TLS certificates of all origins."""


def tls_context(*alpn: str) -> ssl.SSLContext:
    """A certificate of the lab CA for all names of the lab."""
    return authority().server_context(*NAMES, alpn=alpn)


class _JsonOrigin(LabServer):
    """`requests` lists the answer to each request.

    An answer has `method`, `path`, `headers` (lower-case names), `body`, `connection` (serial
    number of the connection, from 1), `family` (4 or 6, of the peer).
    """

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        super().__init__(host=host, tls=tls)
        self.requests: list[dict[str, Any]] = []
        self.release = asyncio.Event()
        """`/hold` answers once this is set."""

    def url(self, name: str = "", path: str = "/") -> str:
        """A URL of this origin, by another name if given."""
        place = f"{name}:{self.port}" if name else self.authority
        return f"{'https' if self._tls else 'http'}://{place}{path}"

    def describe(self, method: str, path: str, headers: dict[str, str], **more: Any) -> bytes:
        self.requests.append({"method": method, "path": path, "headers": headers, **more})
        self.changed()
        return json.dumps(self.requests[-1]).encode()


class Origin(_JsonOrigin):
    """HTTP/1.1 with keep-alive. Special paths: `/close` closes after the answer,
    `/stream?chunks=3&size=1000` sends a chunked body, `/hold` waits for `release`, and
    `/status/404` answers with that status. All other paths answer with JSON."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serial = self.serial
        http = H11Stream(h11.SERVER, reader, writer)
        while True:
            request = await http.head(h11.Request)
            body = await http.body()
            url = urlsplit(request.target.decode())
            answer = self.describe(
                request.method.decode(),
                request.target.decode(),
                {name.decode(): value.decode("latin-1") for name, value in request.headers},
                body=body.decode("latin-1"),
                connection=serial,
                family=family_of(writer.get_extra_info("peername")[0]),
            )
            await self._answer(http, url.path, parse_qs(url.query), answer)
            if not http.reuse():
                return

    async def _answer(
        self, http: H11Stream, path: str, query: dict[str, list[str]], answer: bytes
    ) -> None:
        headers = [(b"content-type", b"application/json")]
        if path == "/stream":
            chunks, size = (int(query[name][0]) for name in ("chunks", "size"))
            await http.send(
                h11.Response(status_code=200, headers=[(b"transfer-encoding", b"chunked")])
            )
            for _ in range(chunks):
                await http.send(h11.Data(data=b"x" * size))
            await http.send(h11.EndOfMessage())
            return
        if path == "/hold":
            await self.release.wait()
        if path == "/close":
            headers.append((b"connection", b"close"))
        status = int(path.removeprefix("/status/")) if path.startswith("/status/") else 200
        await http.answer(status, headers, answer)


class Http2Origin(_JsonOrigin):
    """HTTP/2 over TLS, multiplexed; answers with JSON that also has the `stream`.

    Requests for `/hold` are answered once `release` is set; `resets` are the paths of requests that
    were reset before. `at_once` is how many streams a client may have open.
    """

    def __init__(self, *, host: str = "127.0.0.1", at_once: int = 100) -> None:
        super().__init__(host=host, tls=tls_context("h2"))
        self.resets: list[str] = []
        self._at_once = at_once

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serial = self.serial
        family = family_of(writer.get_extra_info("peername")[0])
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        http.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self._at_once})
        asked: dict[int, dict[str, str]] = {}
        bodies: dict[int, bytes] = {}
        held: dict[int, tuple[str, bytes]] = {}
        reading, released = None, asyncio.ensure_future(self.release.wait())
        while True:
            writer.write(http.data_to_send())
            await writer.drain()
            reading = reading or asyncio.ensure_future(reader.read(65536))
            await asyncio.wait(
                [reading, *([released] if held else [])], return_when=asyncio.FIRST_COMPLETED
            )
            if released.done():
                for stream, (_, answer) in held.items():
                    _answer_stream(http, stream, answer)
                held.clear()
            if not reading.done():
                continue
            data, reading = reading.result(), None
            if not data:
                released.cancel()
                return
            for event in http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    pairs = [(_str(name), _str(value)) for name, value in event.headers]
                    asked[event.stream_id], bodies[event.stream_id] = dict(pairs), b""
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                    http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    stream = event.stream_id
                    headers = asked.pop(stream)
                    answer = self.describe(
                        headers[":method"],
                        headers[":path"],
                        headers,
                        body=bodies.pop(stream).decode("latin-1"),
                        connection=serial,
                        family=family,
                        stream=stream,
                    )
                    if headers[":path"].startswith("/hold") and not self.release.is_set():
                        held[stream] = headers[":path"], answer
                        self.changed()
                    else:
                        _answer_stream(http, stream, answer)
                elif isinstance(event, h2.events.StreamReset):
                    path, _ = held.pop(event.stream_id, ("", b""))
                    self.resets.append(path)
                    self.changed()


class WebSocketOrigin:
    """Echoes messages. `paths` and `families` list the connections' requests and peers."""

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = 0
        self.paths: list[str] = []
        self.families: list[Literal[4, 6]] = []
        self._tls = tls

    def url(self, name: str = "", path: str = "/") -> str:
        host = name or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"{'wss' if self._tls else 'ws'}://{host}:{self.port}{path}"

    async def __aenter__(self) -> Self:
        self._server: Server = await serve(self._echo, self.host, 0, ssl=self._tls)
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _echo(self, connection: ServerConnection) -> None:
        assert connection.request
        self.paths.append(connection.request.path)
        self.families.append(family_of(connection.remote_address[0]))
        with contextlib.suppress(ConnectionClosedError):  # a proxy may cut it
            async for message in connection:
                await connection.send(message)


class TcpEcho(LabServer):
    """Sends back what it receives. With a `banner`, the server speaks first."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        banner: bytes = b"",
    ) -> None:
        super().__init__(host=host, tls=tls)
        self.banner = banner

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.banner)
        while data := await reader.read(65536):
            self.changed()
            writer.write(data)
            await writer.drain()


class UdpEcho(asyncio.DatagramProtocol):
    """Sends back each datagram. `received` and `families` list them and their peers."""

    def __init__(self, *, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.received: list[bytes] = []
        self.families: list[Literal[4, 6]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self.host, 0)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.received.append(data)
        self.families.append(family_of(addr[0]))
        self._transport.sendto(data, addr)


def _answer_stream(http: h2.connection.H2Connection, stream: int, answer: bytes) -> None:
    http.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
    http.send_data(stream, answer, end_stream=True)


def _str(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
