"""Requests as they come over the wire, whole, in crumbs and broken, and answers as they go."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress_policy.api import exchange as module
from egress_policy.api.calls import Response
from egress_policy.api.exchange import HEAD_LIMIT, Exchange
from egress_policy.api.listener import Allowance, ClientConnection
from egress_policy.api.problems import Problem
from tests.helpers.clock import Clock

GET = b"GET /a%20b?x=1&y=&x=%C3%A9 HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\nCOOKIE: b=2\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"


@contextlib.asynccontextmanager
async def exchange() -> AsyncIterator[tuple[Exchange, socket.socket]]:
    """An exchange and the socket of its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        async with asyncio.timeout(20):
            yield Exchange(ClientConnection(ours, "127.0.0.1", Allowance(1, 1.0, Clock()))), theirs


async def answered(peer: socket.socket) -> bytes:
    """What the peer got so far."""
    return await asyncio.get_running_loop().sock_recv(peer, 1_000_000)


async def test_head_is_read_with_its_query_and_headers() -> None:
    async with exchange() as (it, peer):
        peer.send(GET)
        request = await it.read_head()
        assert (request.method, request.path) == ("GET", "/a%20b")
        assert request.query == (("x", "1"), ("y", ""), ("x", "é"))
        assert request.headers["HOST"] == "h"
        assert request.headers["Cookie"] == "a=1; b=2"
        assert request.headers.get("Origin") is None


async def test_request_is_read_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0))
    async with exchange() as (it, peer):
        loop = asyncio.get_running_loop()

        async def trickle() -> None:
            for byte in POST + b"hello":
                await loop.sock_sendall(peer, bytes([byte]))
                await sleep(0)

        trickling = asyncio.create_task(trickle())
        assert (await it.read_head()).method == "POST"
        assert await it.read_body() == b"hello"
        await trickling


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # without a host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /?%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /?" + b"a&" * 101 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * HEAD_LIMIT, 431),
    ],
)
async def test_what_is_no_request_is_a_problem_and_can_be_answered(
    sent: bytes, status: int
) -> None:
    async with exchange() as (it, peer):
        peer.send(sent)
        with pytest.raises(Problem) as caught:
            await it.read_head()
        assert caught.value.status == status
        await it.send(Response("no", status))
        assert (await answered(peer)).startswith(b"HTTP/1.1 %d " % status)


async def test_peer_that_closes_before_it_asks_is_gone() -> None:
    async with exchange() as (it, peer):
        peer.close()
        with pytest.raises(OSError):  # noqa: PT011 (whichever of them)
            await it.read_head()


@pytest.mark.parametrize(("limit", "sent"), [("HEAD_TIME", b"GET /"), ("BODY_TIME", POST + b"h")])
async def test_what_does_not_come_in_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch, limit: str, sent: bytes
) -> None:
    monkeypatch.setattr(module, limit, 0.05)
    async with exchange() as (it, peer):
        peer.send(sent)
        if limit == "BODY_TIME":
            await it.read_head()
        with pytest.raises(TimeoutError):
            await (it.read_head() if limit == "HEAD_TIME" else it.read_body())


async def test_body_is_asked_for_where_the_peer_waits_to_be() -> None:
    async with exchange() as (it, peer):
        peer.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        await it.read_head()
        reading = asyncio.create_task(it.read_body())
        assert (await answered(peer)).startswith(b"HTTP/1.1 100 ")
        peer.send(b"hello")
        assert await reading == b"hello"


async def test_refused_body_is_not_asked_for() -> None:
    async with exchange() as (it, peer):
        peer.send(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        await it.read_head()
        await it.send(Response("no", 413))
        assert (await answered(peer)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_answer_is_one_message_and_the_last(method: str) -> None:
    async with exchange() as (it, peer):
        peer.send(GET.replace(b"GET", method.encode()))
        await it.read_head()
        await it.send(
            Response("text", etag="7", type_="text/plain", headers={"Cache-Control": "no"})
        )
        head, _, body = (await answered(peer)).partition(b"\r\n\r\n")
        assert body == (b"text" if method == "GET" else b"")
        lines = head.lower().split(b"\r\n")
        expected = {b'etag: "7"', b"cache-control: no", b"content-length: 4", b"connection: close"}
        assert expected <= set(lines)
        assert b"content-type: text/plain" in lines


def stream(*pieces: bytes) -> tuple[AsyncGenerator[bytes], Callable[[], bool]]:
    """A stream that never ends by itself, and whether it was closed."""
    closed = False

    async def generate() -> AsyncGenerator[bytes]:
        nonlocal closed
        try:
            for piece in pieces:
                yield piece
            await asyncio.get_running_loop().create_future()
        finally:
            closed = True

    return generate(), lambda: closed


async def test_stream_goes_on_until_the_peer_goes_and_is_closed_then() -> None:
    async with exchange() as (it, peer):
        peer.send(GET)
        await it.read_head()
        content, closed = stream(b"", b"one", b"two")
        sending = asyncio.create_task(it.send(Response(content, type_="text/event-stream")))
        received = b""
        while b"two" not in received:
            received += await answered(peer)
        assert b"content-type: text/event-stream" in received.lower()
        assert b"3\r\none\r\n3\r\ntwo\r\n" in received
        assert not closed()
        peer.close()
        await sending
        assert closed()


async def test_stream_that_ends_ends_the_answer() -> None:
    async def short() -> AsyncGenerator[bytes]:
        yield b"all"

    async with exchange() as (it, peer):
        peer.send(GET)
        await it.read_head()
        await it.send(Response(short(), type_="text/plain"))
        assert (await answered(peer)).endswith(b"3\r\nall\r\n0\r\n\r\n")


async def test_head_of_a_stream_starts_nothing() -> None:
    async with exchange() as (it, peer):
        peer.send(GET.replace(b"GET", b"HEAD"))
        await it.read_head()
        await it.send(Response(stream(b"one")[0], type_="text/event-stream"))
        assert (await answered(peer)).endswith(b"\r\n\r\n")


async def outcome(read: Callable[[], Awaitable[object]]) -> str:
    try:
        await read()
    except (Problem, OSError) as error:
        return type(error).__name__
    return "read"


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=40).map(lambda end: POST + end)))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_request_a_problem_or_the_end(sent: bytes) -> None:
    async def run() -> None:
        async with exchange() as (it, peer):
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            if await outcome(it.read_head) == "read":
                await outcome(it.read_body)

    asyncio.run(run())
