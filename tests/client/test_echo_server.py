"""The echo server, asked by real peers: what it answers, and what strangers can take of it."""

import asyncio
import contextlib
import errno
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from egress_policy.client.echo_server import STANDARD, EchoLimits, EchoServer
from egress_policy.client.signed_echo import signed_answer
from egress_policy.model.settings import parse_listen

KEY, NONCE = b"a key of the echo", "n" * 22


@contextlib.asynccontextmanager
async def echo(
    listen: str = "127.0.0.1:0", limits: EchoLimits = STANDARD
) -> AsyncIterator[EchoServer]:
    server = EchoServer(KEY, limits, lambda: 1_764_432_000.9)
    await server.start(parse_listen(listen))
    try:
        yield server
    finally:
        await server.aclose()
        assert server.open == 0


async def ask(server: EchoServer, head: str, host: str = "127.0.0.1") -> tuple[str, str]:
    """Head and body of the answer."""
    reader, writer = await asyncio.open_connection(host, server.address[1])
    writer.write(head.encode())
    async with asyncio.timeout(10):
        answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    before, _, after = answer.partition("\r\n\r\n")
    return before, after


def get(path: str, *headers: str, method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: echo.test", *headers, "", ""])


async def test_it_answers_the_callers_address_signed() -> None:
    async with echo() as server:
        head, body = await ask(server, get(f"/?nonce={NONCE}"))
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "cache-control: no-store" in head.lower()
    assert json.loads(body) == signed_answer(KEY, NONCE, "127.0.0.1", 1_764_432_000)


@pytest.mark.parametrize(("host", "seen"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
async def test_one_listener_serves_both_families(host: str, seen: str) -> None:
    async with echo("[::]:0") as server:
        _, body = await ask(server, get("/"), host)
    assert json.loads(body) == {"ip": seen}


async def test_a_listener_of_one_ipv6_address_serves_that_alone() -> None:
    async with echo("[::1]:0") as server:
        with pytest.raises(OSError):  # noqa: PT011 (which one depends on the system)
            await ask(server, get("/"))


async def test_headers_say_nothing_about_the_caller() -> None:
    async with echo() as server:
        forged = ("X-Forwarded-For: 198.51.100.9", "Forwarded: for=198.51.100.9")
        _, body = await ask(server, get("/", *forged, "X-Real-IP: 198.51.100.9"))
    assert json.loads(body) == {"ip": "127.0.0.1"}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/?nonce=short"), 400),
        (get(f"/?nonce={NONCE}&nonce={NONCE}"), 400),
        (get(f"/?nonce={NONCE}%0A"), 400),
        (get("/?" + "&".join("a=b" for _ in range(50))), 400),
        (get("/", method="POST"), 405),
        (get("/", "X: " + "x" * 20_000), 431),
        ("\x16\x03\x01 no HTTP\r\n\r\n", 400),
        (get(f"http://echo.test/?nonce={NONCE}"), 200),
    ],
)
async def test_what_is_no_question_is_no_answer(request_: str, status: int) -> None:
    async with echo() as server:
        head, body = await ask(server, request_)
    assert head.split()[1] == str(status)
    assert ("ip" in json.loads(body)) is (status == 200)


async def test_head_has_no_body() -> None:
    async with echo() as server:
        head, body = await ask(server, get("/", method="HEAD"))
    assert "200 OK" in head
    assert body == ""


async def test_whoever_is_silent_is_closed_in_time() -> None:
    async with echo(limits=EchoLimits(seconds=0.05)) as server:
        for head in ("", "GET / HTTP/1.1\r\n"):
            assert await ask(server, head) == ("", "")


async def test_a_newcomer_takes_the_place_of_the_oldest() -> None:
    async with echo(limits=EchoLimits(connections=2, seconds=60)) as server:
        silent = [await asyncio.open_connection(*server.address) for _ in range(3)]
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                assert await silent[0][0].read() == b""
        _, body = await ask(server, get("/"))
        assert json.loads(body)["ip"] == "127.0.0.1"
        assert server.open <= 2
        for _, writer in silent:
            writer.close()


async def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            await EchoServer(KEY).start(parse_listen(f"127.0.0.1:{taken.getsockname()[1]}"))


async def test_a_machine_without_ipv6_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoIpv6(socket.socket):
        def __init__(self, family: int = -1, *rest: int, **more: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *rest, **more)

    monkeypatch.setattr(socket, "socket", NoIpv6)
    with pytest.raises(OSError, match=os.strerror(errno.EAFNOSUPPORT)):
        await EchoServer(KEY).start(parse_listen("[::]:0"))
