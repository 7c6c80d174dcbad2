"""One request and its answer over a stream: to the target itself, and to a proxy that forwards."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import h11
import pytest

from egress_policy.client.exchange import HttpExchange, HttpRequest, NoHttpAnswer
from egress_policy.client.stream import SocketStream
from egress_policy.model.proxy import Proxy
from egress_policy.model.target_url import parse_target_url
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy
from tests.helpers.server import LabServer

LIMIT = 65536


@contextlib.asynccontextmanager
async def stream_to(server: LabServer) -> AsyncIterator[SocketStream]:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.address)
        yield SocketStream(sock)


async def asked(server: LabServer, request: HttpRequest, **more: Any) -> tuple[h11.Response, bytes]:
    async with stream_to(server) as stream:
        exchange = HttpExchange(stream, **more)
        return await exchange.ask(request), await exchange.body(LIMIT)


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", b"", None),
        ("DELETE", b"", None),
        ("POST", b"", "0"),
        ("POST", b"a=1", "3"),
        ("PUT", b"x" * 20_000, "20000"),
    ],
)
async def test_any_method_carries_its_headers_and_body(
    method: str, body: bytes, length: str | None
) -> None:
    async with Origin() as origin:
        url = parse_target_url(origin.url("origin.test", "/p?x=1"))
        head, answer = await asked(
            origin, HttpRequest(url, method, (("content-type", "text/x-test"),), body)
        )
    assert (head.status_code, dict(head.headers)[b"content-type"]) == (200, b"application/json")
    seen = json.loads(answer)
    assert (seen["method"], seen["path"]) == (method, "/p?x=1")
    assert seen["body"].encode("latin-1") == body
    assert seen["headers"].get("content-length") == length
    assert seen["headers"]["content-type"] == "text/x-test"
    assert seen["headers"]["host"] == f"origin.test:{origin.port}"


async def test_a_forwarder_is_asked_in_absolute_form_with_its_credentials() -> None:
    account = ("alice", "s3cret")
    async with (
        Origin() as origin,
        HttpProxy(resolve={"origin.test": origin.address}, credentials=account) as proxy,
    ):
        entry = Proxy.model_validate(
            {"name": "dc", "host": "proxy.test", "username": "alice", "password": "s3cret"}
        )
        request = HttpRequest(parse_target_url(origin.url("origin.test")), "POST", body=b"a=1")
        head, answer = await asked(proxy, request, forwarder=entry)
    assert head.status_code == 200
    assert json.loads(answer)["body"] == "a=1"
    (seen,) = proxy.requests
    assert seen.line.startswith(f"POST http://origin.test:{origin.port}/ ")
    assert seen.credentials == account


async def test_the_answer_to_head_has_no_body() -> None:
    class Short(LabServer):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            await writer.drain()

    async with Short() as server:
        request = HttpRequest(parse_target_url("http://origin.test/"), "HEAD")
        head, body = await asked(server, request)
    assert (head.status_code, body) == (200, b"")
    assert list(head.headers) == [(b"content-length", b"5")]


class Says(LabServer):
    def __init__(self, *answer: bytes) -> None:
        super().__init__()
        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in self.answer:
            writer.write(piece)
            await writer.drain()


GET = HttpRequest(parse_target_url("http://origin.test/"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-x\r\n\r\n", "no answer of HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "no answer"),
    ],
)
async def test_what_is_no_answer_is_told(answer: bytes, words: str) -> None:
    async with Says(answer) as server:
        with pytest.raises(NoHttpAnswer, match=words):
            await asked(server, GET)


async def test_a_forwarder_that_speaks_another_protocol_is_told_by_it() -> None:
    async with Says(b"\x05\xff") as server:
        with pytest.raises(NoHttpAnswer, match="looks like a SOCKS proxy"):
            await asked(server, GET, forwarder=Proxy(name="dc", host="proxy.test"))


async def test_a_body_that_breaks_off_is_no_body() -> None:
    async with Says(OK + b"abc") as server:
        with pytest.raises(NoHttpAnswer, match="broke off"):
            await asked(server, GET)


async def test_a_body_is_read_no_further_than_the_limit() -> None:
    async with Origin() as origin, stream_to(origin) as stream:
        url = parse_target_url(origin.url(path="/stream?chunks=100&size=10000"))
        exchange = HttpExchange(stream)
        assert (await exchange.ask(HttpRequest(url))).status_code == 200
        body = await exchange.body(20_000)
        assert 0 < len(body) < 1_000_000


async def test_the_first_byte_is_told_once_and_interim_answers_are_skipped() -> None:
    told = 0

    def first_byte() -> None:
        nonlocal told
        told += 1

    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with Says(early[:9], early[9:], OK[:3], OK[3:] + b"hello") as server:
        head, body = await asked(server, GET, on_first_byte=first_byte)
    assert (head.status_code, body, told) == (200, b"hello", 1)


class Flood:
    """A peer that has always sent more already: ``head`` once, then pieces, then nothing."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self._left = [piece] * 10 + [head]

    async def send(self, data: bytes) -> None:
        pass

    async def receive(self) -> bytes:
        return self._left.pop() if self._left else b""


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_a_peer_that_never_pauses_leaves_turns_to_others() -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    exchange = HttpExchange(Flood(CHUNKED, b"1\r\na\r\n" * 1000))
    await exchange.ask(HttpRequest(parse_target_url("http://list.test/")))
    turn()
    with pytest.raises(NoHttpAnswer, match="broke off"):
        await exchange.whole(1 << 20)
    assert turns > 100


async def test_interim_answers_are_bounded() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    exchange = HttpExchange(Flood(interim, interim * 50))
    with pytest.raises(NoHttpAnswer, match="too many interim answers"):
        await exchange.ask(HttpRequest(parse_target_url("http://list.test/")))


async def test_a_socket_that_is_ready_is_read_in_turn() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"ready")
        said: list[str] = []
        asyncio.get_running_loop().call_soon(said.append, "another")
        assert await SocketStream(ours).receive() == b"ready"
        assert said == ["another"]
