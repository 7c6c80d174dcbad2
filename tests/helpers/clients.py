"""Small clients: through an HTTP proxy, through SOCKS5, one connection or many requests on one."""

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import h11
import httpx

from tests.helpers.certs import client_context
from tests.helpers.h11_stream import H11Stream

Pairs = Iterable[tuple[str, str]]
PATIENCE = 25.0
"""Seconds that a client waits: longer than the product takes to give up, shorter than a test."""
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@asynccontextmanager
async def patience(what: str) -> AsyncIterator[None]:
    """Fail if ``what`` does not happen. A client that hangs was not refused, but an ``OSError``
    would look like a refusal."""
    try:
        async with asyncio.timeout(PATIENCE) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AssertionError(f"{what} did not come within {PATIENCE:g} s") from error


@dataclass(frozen=True)
class Response:
    """`headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connection as streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, length: int) -> bytes:
        """Read exactly this many bytes. Raises IncompleteReadError if the peer closes before."""
        return await self.reader.readexactly(length)

    async def closed(self) -> bytes:
        """Wait for the peer's end, or a reset, and return what it sent before."""
        data = b""
        async with patience("the peer's end"):
            with suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    data += piece
        return data

    async def start_tls(self, ca: Path, name: str, alpn: Sequence[str] = ()) -> ssl.SSLObject:
        """Speak TLS from here on, trusting `ca`, and return the negotiated protocol."""
        await self.writer.start_tls(client_context(ca, alpn), server_hostname=name)
        negotiated = self.writer.get_extra_info("ssl_object")
        assert isinstance(negotiated, ssl.SSLObject)
        return negotiated

    async def request(
        self, method: str, target: str, host: str, headers: Pairs = (), body: bytes = b""
    ) -> Response:
        """Send one request and return its answer. More may follow unless the server closes."""
        http = H11Stream(h11.CLIENT, self.reader, self.writer)
        fields = [("host", host), *headers]
        if body:
            fields.append(("content-length", str(len(body))))
        request = h11.Request(method=method, target=target, headers=fields)
        await http.send(request, h11.Data(data=body), h11.EndOfMessage())
        response = await http.head(h11.Response)
        pairs = {name.decode(): value.decode("latin-1") for name, value in response.headers}
        return Response(response.status_code, pairs, await http.body())


@asynccontextmanager
async def wire(port: int, host: str = "127.0.0.1", source: str = "") -> AsyncIterator[Wire]:
    """A bare connection, from ``source`` if given, which is cut at the end."""
    local = (source, 0) if source else None
    made = Wire(*await asyncio.open_connection(host, port, local_addr=local))
    try:
        yield made
    finally:
        made.writer.transport.abort()
        await asyncio.sleep(0)  # the transport is gone in the next turn


class ConnectRefused(ConnectionError):
    """A proxy answered CONNECT with another status than 200."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status, answer.body)
        self.answer = answer


@asynccontextmanager
async def connect(
    port: int, host: str, target_port: int, headers: Pairs = (), source: str = ""
) -> AsyncIterator[Wire]:
    """A tunnel through the proxy on `port`. Raises ConnectRefused."""
    authority = f"[{host}]:{target_port}" if ":" in host else f"{host}:{target_port}"
    async with wire(port, source=source) as tunnel:
        answer = await tunnel.request("CONNECT", authority, authority, headers)
        if answer.status != 200:
            raise ConnectRefused(answer)
        yield tunnel


@asynccontextmanager
async def socks5(
    port: int,
    host: str,
    target_port: int,
    username: str = "",
    password: str = "",
    source: str = "",
) -> AsyncIterator[Wire]:
    """A tunnel through the SOCKS5 proxy on `port`. Raises ConnectionError(code)."""
    async with wire(port, source=source) as tunnel:
        await tunnel.send(b"\x05\x01" + (b"\x02" if username else b"\x00"))
        _, code = await tunnel.receive(2)
        if code == 2:
            pair = [text.encode() for text in (username, password)]
            await tunnel.send(b"\x01" + b"".join(bytes((len(text),)) + text for text in pair))
            _, code = await tunnel.receive(2)
        if code:
            raise ConnectionError(code)
        await tunnel.send(b"\x05\x01\x00" + _socks5_address(host) + target_port.to_bytes(2))
        _, code, _, kind = await tunnel.receive(4)
        if code:
            raise ConnectionError(code)
        length = {1: 4, 4: 16}.get(kind) or (await tunnel.receive(1))[0]
        await tunnel.receive(length + 2)
        yield tunnel


@dataclass(frozen=True)
class Session:
    """Requests to one origin on one client connection. Paths are relative to `base`."""

    base: SplitResult
    wire: Wire

    async def get(self, path: str = "/", headers: Pairs = ()) -> Response:
        return await self.request("GET", path, headers)

    async def request(
        self, method: str, path: str, headers: Pairs = (), body: bytes = b""
    ) -> Response:
        host = self.base.netloc
        target = f"http://{host}{path}" if self.base.scheme == "http" else path
        return await self.wire.request(method, target, host, headers, body)


@asynccontextmanager
async def session(
    port: int, base: str, ca: Path | None = None, source: str = ""
) -> AsyncIterator[Session]:
    """Through the proxy on `port`: `https` by CONNECT and TLS (trusting `ca`), `http` by
    forwarding."""
    url = urlsplit(base)
    assert url.hostname
    if url.scheme == "http":
        async with wire(port, source=source) as plain:
            yield Session(url, plain)
        return
    assert ca
    async with connect(port, url.hostname, url.port or 443, source=source) as tunnel:
        await tunnel.start_tls(ca, url.hostname)
        yield Session(url, tunnel)


async def http_get(
    port: int, url: str, *, ca: Path | None = None, headers: Pairs = (), source: str = ""
) -> Response:
    """One GET through the proxy on `port`. If CONNECT is refused, that is the answer."""
    path = urlsplit(url)._replace(scheme="", netloc="").geturl() or "/"
    try:
        async with session(port, url, ca, source) as through:
            return await through.get(path, headers)
    except ConnectRefused as error:
        return error.answer


class _OnlyHttp2(ssl.SSLContext):
    """Trusts this CA and offers only h2, whatever httpx would offer."""

    def __new__(cls, _ca: Path) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, ca: Path) -> None:
        self.load_verify_locations(ca)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(["h2"])


def plain_client(**options: Any) -> httpx.AsyncClient:
    """Speaks plain HTTP to a listener on loopback, whatever proxies the environment names."""
    # Without `verify` each client reads the certificate authorities of the system: 20 ms.
    return httpx.AsyncClient(verify=_NO_AUTHORITIES, trust_env=False, timeout=20, **options)


@asynccontextmanager
async def http2_client(port: int, ca: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks HTTP/2 over TLS through the proxy on `port`, always on one connection.

    Requests made together become concurrent streams once the first of them is answered.
    """
    async with httpx.AsyncClient(
        http1=False,
        http2=True,
        proxy=f"http://127.0.0.1:{port}",
        verify=_OnlyHttp2(ca),
        trust_env=False,
        timeout=30,
        limits=httpx.Limits(max_connections=1),
    ) as client:
        yield client


def _socks5_address(host: str) -> bytes:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return bytes((3, len(host))) + host.encode()
    return bytes((1 if ip.version == 4 else 4,)) + ip.packed
