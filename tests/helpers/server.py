"""The common part of every TCP server of the lab: port 0, connections counted, no leftovers."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Literal, Self

from tests.helpers.watch import Watch

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LabServer:
    """A loopback server; subclasses implement `serve` for one connection. `port` may be set before
    it starts.

    `accepted` counts connections, `peers` and `families` hold the address and family of each peer,
    `received` holds every byte from them (decrypted), `open` counts the open connections;
    `until(predicate)` waits for a change of any of these.
    """

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = 0
        self.accepted = 0
        self.peers: list[str] = []
        self.received = bytearray()
        self._tls = tls
        self._live: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._serials: dict[asyncio.Task[None], int] = {}
        self._closing: list[asyncio.StreamWriter] = []
        self._watch = Watch()

    @property
    def families(self) -> list[Literal[4, 6]]:
        return [family_of(peer) for peer in self.peers]

    @property
    def open(self) -> int:
        return len(self._live)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def authority(self) -> str:
        """`host:port` as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def serial(self) -> int:
        """The connection that the current task serves, counted from 1."""
        task = asyncio.current_task()
        assert task
        return self._serials[task]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def before_tls(self, writer: asyncio.StreamWriter) -> None:
        """Called for an accepted connection, before any byte."""

    async def until(self, predicate: Callable[[], object], timeout: float = 10) -> None:
        await self._watch.until(predicate, timeout)

    def changed(self) -> None:
        self._watch.notify()

    def drop_connections(self) -> None:
        """Cut every open connection at once."""
        for task, writer in list(self._live.items()):
            writer.transport.abort()
            task.cancel()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        tasks = list(self._live)
        self.drop_connections()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._closing:  # a peer may never answer the end of TLS
            writer.transport.abort()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._record(reader)
        self._live[task] = writer
        self.accepted += 1
        self._serials[task] = self.accepted
        self.peers.append(writer.get_extra_info("peername")[0])
        self.changed()
        try:
            # ``drop_connections`` cancels; Python 3.12 would report that as an error of the server.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await self.before_tls(writer)
                if self._tls:
                    await writer.start_tls(self._tls)
                await self.serve(reader, writer)
        finally:
            del self._live[task], self._serials[task]
            self._closing.append(writer)
            writer.close()
            self.changed()

    def _record(self, reader: asyncio.StreamReader) -> None:
        feed = reader.feed_data

        def keep(data: bytes) -> None:
            self.received += data
            feed(data)

        reader.feed_data = keep  # type: ignore[method-assign,assignment]


def family_of(address: str) -> Literal[4, 6]:
    """The family of the packets from this peer; a mapped address is IPv4."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return 6 if isinstance(ip, ipaddress.IPv6Address) and not ip.ipv4_mapped else 4


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def relay(client: Stream, server: Stream) -> None:
    """Copy both ways until both ends have finished, half-closes included."""
    try:
        await asyncio.gather(_pump(client[0], server[1]), _pump(server[0], client[1]))
    finally:
        client[1].close()
        server[1].close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        writer.transport.abort()
        return
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()
    else:
        writer.close()
