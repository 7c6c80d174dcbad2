"""Upstream proxies of the lab: HTTP(S) and SOCKS5, with faults on demand.

They resolve "remotely" by a table: `resolve={"origin.test": ("127.0.0.1", port)}` sends a name to a
loopback port (a key may also be `"origin.test:443"`). IP literals are dialled as they are; a name
that is not in the table does not exist.
"""

import asyncio
import base64
import contextlib
import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal

import h11

from tests.helpers.certs import authority
from tests.helpers.h11_stream import H11Stream
from tests.helpers.origin import NAMES
from tests.helpers.server import LabServer, Stream, family_of, relay, reset

Moment = Literal["accept", "handshake", "reply"]
Credentials = tuple[str, str]


@dataclass
class Faults:
    """Faults at `accept` (before a byte is read), `handshake` (instead of a reply) or, in SOCKS5,
    `reply` (instead of the last reply)."""

    stall: Moment | None = None
    reset: Moment | None = None
    garbage: bytes = b""
    trickle: bool = False
    """Write every byte of the handshake separately."""
    behind: bytes = b""
    """Sent right after the reply that opens a tunnel."""

    async def at(self, moment: Moment, writer: asyncio.StreamWriter) -> None:
        if self.stall == moment:
            await asyncio.Event().wait()
        if self.reset == moment:
            reset(writer)
            raise ConnectionResetError
        if self.garbage and moment == "handshake":
            await self.write(writer, self.garbage)
            await asyncio.Event().wait()

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for piece in [bytes((byte,)) for byte in data] if self.trickle else [data]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # lets a peer in this loop read the piece by itself


@dataclass(frozen=True)
class ProxyRequest:
    """A request to a proxy. SOCKS5 has no `line` and no `headers`."""

    target: str
    family: Literal[4, 6]
    credentials: Credentials | None = None
    line: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    methods: bytes = b""

    @property
    def host(self) -> str:
        return self.target.rpartition(":")[0].strip("[]")


class LabProxy(LabServer):
    """The common part. `requests` are all requests, `tunnels` counts the open tunnels."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        credentials: Credentials | None = None,
        resolve: dict[str, tuple[str, int]] | None = None,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(host=host, tls=tls)
        self.credentials = credentials
        self.resolve = resolve or {}
        self.faults = faults or Faults()
        self.requests: list[ProxyRequest] = []
        self.tunnels = 0

    @property
    def targets(self) -> list[str]:
        """`host:port` of every request, in order."""
        return [request.target for request in self.requests]

    async def before_tls(self, writer: asyncio.StreamWriter) -> None:
        await self.faults.at("accept", writer)

    def record(self, request: ProxyRequest) -> None:
        self.requests.append(request)
        self.changed()

    async def dial(self, host: str, port: int) -> Stream:
        """Raises LookupError for a name that does not exist, OSError if there is no connection."""
        try:
            address = str(ipaddress.ip_address(host)), port
        except ValueError:
            found = self.resolve.get(f"{host}:{port}") or self.resolve.get(host)
            if not found:
                raise LookupError(host) from None
            address = found
        return await asyncio.open_connection(*address)

    async def tunnel(self, client: Stream, server: Stream, sent: bytes = b"") -> None:
        self.tunnels += 1
        self.changed()
        try:
            server[1].write(sent)
            await relay(client, server)
        finally:
            self.tunnels -= 1
            self.changed()


class HttpProxy(LabProxy):
    """CONNECT and absolute-form forwarding; with `tls`, an https proxy.

    `status` answers every request with that status; `only_443` refuses CONNECT to other ports. Each
    forwarded request gets its own upstream connection.
    """

    status: int | None = None
    only_443: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = H11Stream(h11.SERVER, reader, writer)
        while True:
            request = await client.head(h11.Request)
            asked = _asked(request, writer)
            self.record(asked)
            await self.faults.at("handshake", writer)
            if refusal := self._refusal(request, asked):
                await client.body()
                await client.answer(refusal, _challenge(refusal), b"refused by the lab's proxy\n")
            elif request.method == b"CONNECT":
                await self._connect(client, asked)
                return
            else:
                await self._forward(client, request, asked)
            if not client.reuse():
                return

    def _refusal(self, request: h11.Request, asked: ProxyRequest) -> int | None:
        if self.status:
            return self.status
        if self.credentials and asked.credentials != self.credentials:
            return 407
        if request.method == b"CONNECT":
            return 403 if self.only_443 and not asked.target.endswith(":443") else None
        return None if request.target.startswith(b"http://") else 400

    async def _connect(self, client: H11Stream, asked: ProxyRequest) -> None:
        await client.next_event()
        try:
            server = await self.dial(asked.host, int(asked.target.rpartition(":")[2]))
        except (OSError, LookupError):
            await client.answer(502, body=b"no such host\n")
            return
        opened = h11.Response(status_code=200, headers=[], reason=b"Connection established")
        head = client.state.send(opened) or b""
        await self.faults.write(client.writer, head + self.faults.behind)
        sent, _ = client.state.trailing_data
        await self.tunnel((client.reader, client.writer), server, sent)

    async def _forward(self, client: H11Stream, request: h11.Request, asked: ProxyRequest) -> None:
        try:
            streams = await self.dial(asked.host, int(asked.target.rpartition(":")[2]))
        except (OSError, LookupError):
            await client.body()
            await client.answer(502, body=b"no such host\n")
            return
        server = H11Stream(h11.CLIENT, *streams)
        with contextlib.closing(server.writer):
            path = (
                b"/" + request.target.split(b"/", 3)[3] if request.target.count(b"/") > 2 else b"/"
            )
            headers = [item for item in request.headers if not item[0].startswith(b"proxy-")]
            await server.send(h11.Request(method=request.method, target=path, headers=headers))
            await _copy_body(client, server)
            response = await server.head(h11.Response)
            await client.send(response)
            await _copy_body(server, client)


class Socks5Proxy(LabProxy):
    """CONNECT to IPv4, IPv6 and names. `reply` answers every request with that code.

    `auth_version` is the byte before the status that answers credentials.
    """

    reply: int | None = None
    auth_version = 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        await self.faults.at("handshake", writer)
        method = 0x02 if self.credentials else 0x00
        if method not in methods:
            await self.faults.write(writer, b"\x05\xff")
            return
        await self.faults.write(writer, bytes((5, method)))
        credentials = None
        if self.credentials:
            await reader.readexactly(1)
            credentials = (await _counted(reader), await _counted(reader))
            accepted = credentials == self.credentials
            await self.faults.write(writer, bytes((self.auth_version, 0 if accepted else 1)))
            if not accepted:
                return
        _version, command, _, kind = await reader.readexactly(4)
        host = await _host(reader, kind)
        port = int.from_bytes(await reader.readexactly(2))
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        family = family_of(writer.get_extra_info("peername")[0])
        self.record(ProxyRequest(target, family, credentials, methods=methods))
        await self.faults.at("reply", writer)
        await self._connect((reader, writer), host, port, 0 if command == 1 else 7)

    async def _connect(self, client: Stream, host: str, port: int, code: int) -> None:
        code = code if self.reply is None else self.reply
        server = None
        if not code:
            try:
                server = await self.dial(host, port)
            except LookupError:
                code = 0x04
            except OSError:
                code = 0x05
        if not server:
            await self.faults.write(client[1], bytes((5, code, 0, 1)) + bytes(6))
            return
        bound = ipaddress.ip_address(server[1].get_extra_info("sockname")[0])
        reply = bytes((5, 0, 0, 1 if bound.version == 4 else 4)) + bound.packed + b"\x04\x38"
        await self.faults.write(client[1], reply + self.faults.behind)
        await self.tunnel(client, server)


def _asked(request: h11.Request, writer: asyncio.StreamWriter) -> ProxyRequest:
    headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
    target = request.target.decode()
    if request.method != b"CONNECT":
        target = target.removeprefix("http://").partition("/")[0]
        target = target if target.rpartition(":")[2].isdigit() else f"{target}:80"
    return ProxyRequest(
        target=target,
        family=family_of(writer.get_extra_info("peername")[0]),
        credentials=_basic(headers.get("proxy-authorization", "")),
        line=f"{request.method.decode()} {request.target.decode()} HTTP/1.1",
        headers=headers,
    )


def _basic(value: str) -> Credentials | None:
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    username, _, password = base64.b64decode(encoded).decode().partition(":")
    return username, password


def _challenge(status: int) -> list[tuple[bytes, bytes]]:
    return [(b"proxy-authenticate", b'Basic realm="lab"')] if status == 407 else []


async def _copy_body(source: H11Stream, sink: H11Stream) -> None:
    while isinstance(event := await source.next_event(), h11.Data):
        await sink.send(h11.Data(data=event.data))
    await sink.send(h11.EndOfMessage())


async def _counted(reader: asyncio.StreamReader) -> str:
    (length,) = await reader.readexactly(1)
    return (await reader.readexactly(length)).decode()


async def _host(reader: asyncio.StreamReader, kind: int) -> str:
    if kind == 3:
        return await _counted(reader)
    return str(ipaddress.ip_address(await reader.readexactly({1: 4, 4: 16}[kind])))


def make(type_: str, credentials: Credentials | None = None, **more: Any) -> LabProxy:
    """A proxy of this type. An https proxy has a certificate for `proxy.test`."""
    kind = Socks5Proxy if type_ == "socks5" else HttpProxy
    tls = authority().server_context("proxy.test", *NAMES) if type_ == "https" else None
    return kind(tls=tls, credentials=credentials, **more)


def entry(type_: str, place: LabServer | int, **more: Any) -> dict[str, Any]:
    """A policy file's entry for a proxy, or a port, on loopback. It is named `exit`."""
    port = place if isinstance(place, int) else place.port
    return {"name": "exit", "type": type_, "host": "127.0.0.1", "port": port, **more}
