"""Helpers for scenes of several servers, protocols and files: both families on one port, WebSocket,
certificates for many names, flows to replay."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urlsplit

import h11
from mitmproxy import connection, flow, http, io
from mitmproxy.test import tflow
from websockets.asyncio.server import Server, serve
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from egress_policy.errors import Reason
from tests.helpers.certs import authority
from tests.helpers.clients import Pairs, Response, Wire
from tests.helpers.h11_stream import H11Stream
from tests.helpers.nameserver import Zone
from tests.helpers.origin import NAMES, WebSocketOrigin
from tests.helpers.server import LabServer

V4, V6 = "127.0.0.1", "::1"


def tls_for(*names: str, alpn: Iterable[str] = ()) -> ssl.SSLContext:
    """A server context of the lab CA for these names and the lab's usual ones."""
    return authority().server_context(*names, *NAMES, alpn=list(alpn))


def zone(*names: str) -> Zone:
    """Both loopback addresses for each name."""
    return {(name, kind): [ip] for name in names for kind, ip in (("A", V4), ("AAAA", V6))}


@asynccontextmanager
async def dual_stack[S: LabServer](server: S) -> AsyncIterator[S]:
    """A server on 127.0.0.1 that also listens on ::1, on the same port."""
    while True:
        async with server:
            try:
                twin = await asyncio.start_server(server._accept, V6, server.port)
            except OSError:  # that port is somebody's on ::1
                continue
            try:
                yield server
            finally:
                twin.close()
            return


class DualWebSocketOrigin(WebSocketOrigin):
    """A WebSocket origin on 127.0.0.1 and ::1."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._twin: Server = await serve(self._echo, V6, self.port, ssl=self._tls)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._twin.close()
        await self._twin.wait_closed()
        await super().__aexit__(*exc)


class WebSocket:
    """The client's end of a WebSocket on a wire. ``upgrade`` must have been answered with 101."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._frames = Connection(ConnectionType.CLIENT)

    async def echo(self, text: str) -> str:
        """Send a message and return the next message from the server."""
        await self._wire.send(self._frames.send(TextMessage(text)))
        while True:
            self._frames.receive_data(await self._wire.reader.read(65536) or None)
            for event in self._frames.events():
                assert isinstance(event, TextMessage), event
                return event.data

    async def close(self) -> None:
        await self._wire.send(self._frames.send(CloseConnection(1000)))
        await self._wire.closed()


async def upgrade(wire: Wire, target: str, host: str, headers: Pairs = ()) -> Response:
    """Ask for a WebSocket. Returns 101, or any other answer."""
    http1 = H11Stream(h11.CLIENT, wire.reader, wire.writer)
    fields = [
        ("host", host),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        *headers,
    ]
    await http1.send(h11.Request(method="GET", target=target, headers=fields), h11.EndOfMessage())
    answer = await http1.next_event()
    assert isinstance(answer, h11.InformationalResponse | h11.Response), answer
    pairs = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
    body = b"" if answer.status_code == 101 else await http1.body()
    return Response(answer.status_code, pairs, body)


class Datagrams(asyncio.DatagramProtocol):
    """A UDP client."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._received: asyncio.Queue[bytes] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, remote_addr=(V4, self._port)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    def send(self, data: bytes) -> None:
        self._transport.sendto(data)

    async def receive(self) -> bytes:
        async with asyncio.timeout(10):
            return await self._received.get()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._received.put_nowait(data)


def request_to(url: str, method: str = "GET", content: bytes = b"") -> http.HTTPFlow:
    """A flow as a file or an editor may hold it: a request that was never sent."""
    made = tflow.tflow(req=http.Request.make(method, url, content))
    made.request.host_header = urlsplit(url).netloc
    made.live = False
    made.server_conn = connection.Server(address=(made.request.host, made.request.port))
    return made


def save_flows(path: Path, flows: Iterable[flow.Flow]) -> Path:
    with path.open("wb") as file:
        writer = io.FlowWriter(file)
        for one in flows:
            writer.add(one)
    return path


def load_flows(path: Path) -> list[http.HTTPFlow]:
    with path.open("rb") as file:
        return cast(list[http.HTTPFlow], list(io.FlowReader(file).stream()))


PROBLEM_KEYS = ["type", "title", "status", "code", "reason", "detail", "proxy", "family"]
PROBLEM_KEYS += ["host", "rule", "flow_id"]


def refusal_in(answer: Response) -> dict[str, Any]:
    """The body of a refusal, after checking that it follows the contract in every respect."""
    body: dict[str, Any] = answer.json if answer.status == 503 else {}
    assert answer.status == 503, answer
    assert list(body) == PROBLEM_KEYS + ["tried"] * ("tried" in body)
    assert body["status"] == 503
    assert Reason(body["reason"]).code == body["code"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-egress-error"] == body["code"]
    status = answer.headers["proxy-status"]
    assert re.fullmatch(rf'egress-policy; error=[a-z_]+; details="{body["reason"]}"', status), (
        status
    )
    return body


def egress_metadata(over: flow.Flow) -> dict[str, Any]:
    """The flow's metadata, without the prefix."""
    return {
        key.removeprefix("egress."): value
        for key, value in over.metadata.items()
        if key.startswith("egress.")
    }
