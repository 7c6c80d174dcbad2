"""Connections: how many, how fast, and how each one ends, whoever is at the other end."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from egress_policy.api import listener as module
from egress_policy.api.listener import OPEN, Allowance, ClientConnection, Listener
from egress_policy.api.reserve import Reserve
from tests.helpers.clock import Clock

# --- how fast


def test_allowance_is_a_burst_and_then_a_rate() -> None:
    clock = Clock()
    allowance = Allowance(3, 2.0, clock)
    assert [allowance.take() for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    clock.now += 1.0
    assert allowance.take() == 0.5
    clock.now += 100
    assert [allowance.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_allowance_that_is_given_back_is_no_more_than_the_burst() -> None:
    allowance = Allowance(1, 1.0, Clock())
    allowance.give_back()
    assert [allowance.take(), allowance.take()] == [0, 1.0]
    allowance.give_back()
    assert allowance.take() == 1.0


# --- one connection


@contextlib.contextmanager
def pair() -> Iterator[tuple[ClientConnection, socket.socket]]:
    """A connection and its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ClientConnection(ours, "127.0.0.1", Allowance(1, 1.0, Clock())), theirs


async def test_crumbs_are_read_ever_more_rarely_and_all_of_them() -> None:
    with pair() as (connection, peer):
        received = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.7):
                while True:
                    peer.send(b"x")
                    received.append(await connection.receive())
        assert 1 <= len(received) <= 9
        assert set(received) == {b"x"}


async def test_much_at_once_is_read_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def sleeping(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleeping)
    with pair() as (connection, peer):
        for size in (1, 1, 1, 1, 1, 1, 1, 8192, 8192, 1):
            peer.send(b"x" * size)
            assert len(await connection.receive()) == size
    assert pauses == [0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25, 0, 0]


async def test_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_TIME", 0.05)
    with pair() as (connection, _), pytest.raises(TimeoutError):
        await connection.send(b"x" * 50_000_000)


async def test_peer_that_takes_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_TIME", 10)
    with pair() as (connection, peer):
        peer.setblocking(False)
        loop, data = asyncio.get_running_loop(), bytes(range(256)) * 8192
        sending = asyncio.create_task(connection.send(data))
        received = b""
        while len(received) < len(data):
            received += await loop.sock_recv(peer, 100_000)
        await sending
        assert received == data


@pytest.mark.parametrize("known", [False, True])
async def test_end_drops_what_still_comes_up_to_a_limit(known: bool) -> None:
    """The peer sees the end of its answer though it goes on sending."""
    with pair() as (connection, peer):
        if known:
            connection.welcome()
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        sending = asyncio.create_task(loop.sock_sendall(peer, b"x" * 20_000_000))
        await connection.send(b"answer")
        await connection.linger()
        assert await loop.sock_recv(peer, 100) == b"answer"
        assert await loop.sock_recv(peer, 100) == b""
        assert not sending.done()
        sending.cancel()


async def test_end_of_a_peer_that_neither_sends_nor_closes_comes_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINGER", (0.05, 1000))
    with pair() as (connection, _), pytest.raises(TimeoutError):
        await connection.linger()


@pytest.mark.parametrize("sends", [False, True])
async def test_work_ends_when_the_peer_goes_or_sends_more(sends: bool) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    with pair() as (connection, peer):
        if sends:
            peer.send(b"GET / HTTP/1.1\r\n")
        else:
            peer.close()
        async with asyncio.timeout(10):
            await connection.while_open(work())
        assert ended.is_set()


async def test_failure_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise KeyError

    with pair() as (connection, _), pytest.raises(KeyError):
        await connection.while_open(work())


# --- all connections


class Server:
    """Greets, and keeps each connection until it says something; ``known`` first of all."""

    def __init__(self, known: int = 0) -> None:
        self.bound = socket.create_server(("127.0.0.1", 0))
        self.bound.setblocking(False)
        self.address = self.bound.getsockname()
        self.known = known
        self.listener = Listener(self.bound, self._serve)
        self.error: Exception | None = None
        self.writers: list[asyncio.StreamWriter] = []

    async def _serve(self, connection: ClientConnection) -> None:
        if self.known:
            self.known -= 1
            connection.welcome()
        await connection.send(b"hello")
        await connection.receive()
        if self.error:
            raise self.error

    async def knock(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address)
        self.writers.append(writer)
        return reader, writer

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.knock()
        assert await reader.readexactly(5) == b"hello"
        return reader, writer


@contextlib.asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[Server]:
    server = Server(**options)
    server.listener.start()
    try:
        async with asyncio.timeout(30):
            yield server
    finally:
        server.listener.stop()
        for writer in server.writers:
            writer.close()
        while server.listener._open or server.listener._ending:
            await asyncio.sleep(0)


async def closed(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionError):
        return await reader.read() == b""
    return True


async def test_newcomer_takes_the_place_of_the_oldest_stranger() -> None:
    async with listening() as server:
        open_ = [await server.connect() for _ in range(OPEN)]
        assert server.listener.open == OPEN
        newcomers = [await server.connect() for _ in range(3)]
        assert server.listener.open == OPEN
        for reader, _ in open_[:3]:
            assert await closed(reader)
        for reader, writer in [*open_[3:], *newcomers]:
            writer.write(b"x")
            assert await closed(reader)  # served to its end


async def test_known_peer_gives_way_to_none_and_a_newcomer_waits() -> None:
    async with listening(known=OPEN) as server:
        known = [await server.connect() for _ in range(OPEN)]
        reader, _ = await server.knock()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.readexactly(1)
        known[7][1].close()
        assert await reader.readexactly(5) == b"hello"
        assert server.listener.open == OPEN


async def test_strangers_come_at_a_rate_and_known_peers_as_they_like(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BURST", 5)
    monkeypatch.setattr(module, "RATE", 0.001)
    async with listening(known=20) as server:
        for _ in range(20):
            _, writer = await server.connect()
            writer.close()
        for _ in range(5):
            _, writer = await server.connect()
            writer.close()
        reader, _ = await server.knock()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.readexactly(1)


@pytest.mark.parametrize(("reserved", "waits"), [(0, 1), (1, 0)])
async def test_system_without_descriptors_is_waited_for_unless_some_were_set_aside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reserved: int, waits: int
) -> None:
    monkeypatch.setattr(module, "Reserve", lambda: Reserve(reserved))
    monkeypatch.setattr(module, "_RETRY", 0)
    loop = asyncio.get_running_loop()
    accept, errors = loop.sock_accept, [errno.ECONNABORTED, errno.EMFILE]

    async def failing(bound: socket.socket) -> Any:
        if errors:
            await knocked.wait()
            raise OSError(errors.pop(0), "Too many open files")
        return await accept(bound)

    knocked = asyncio.Event()
    monkeypatch.setattr(loop, "sock_accept", failing)
    async with listening() as server:
        reader, _ = await server.knock()
        knocked.set()
        assert await reader.readexactly(5) == b"hello"
    assert caplog.text.count("cannot accept: Too many open files") == waits


async def test_descriptors_are_spared_for_a_block_and_set_aside_again() -> None:
    def used() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with listening() as server:
        before = used()
        with server.listener.spared():
            assert used() <= before - 2
        assert used() == before
        server.listener.stop()
        stopped = used()
        with server.listener.spared():
            pass
        assert used() == stopped


async def test_error_of_one_connection_is_logged_and_ends_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as server:
        server.error = ValueError("unforeseen")
        reader, writer = await server.connect()
        writer.write(b"x")
        assert await closed(reader)
        await server.connect()
    assert "unforeseen" in caplog.text


async def test_stop_closes_the_port_at_once_and_the_connections_soon() -> None:
    async with listening() as server:
        reader, _ = await server.connect()
        server.listener.stop()
        server.listener.stop()
        with socket.create_server(server.address):
            pass
        assert await closed(reader)
