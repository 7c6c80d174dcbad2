"""Byte streams that stack: a socket, and TLS over any other stream.

TLS on memory BIOs rather than asyncio's, so that TLS goes through TLS, and no byte from before a
handshake can pass for one from behind it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

_SIZE: Final = 65536


class Stream(Protocol):
    """Both raise ``OSError`` for a connection that broke."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """What comes next, empty at the end."""


class SocketStream:
    """Over a non-blocking socket, which stays its owner's to close."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, _SIZE)


class Unread:
    """A stream of which some bytes were taken too early."""

    def __init__(self, below: Stream, data: bytes) -> None:
        self._below = below
        self._data = data

    async def send(self, data: bytes) -> None:
        await self._below.send(data)

    async def receive(self) -> bytes:
        data, self._data = self._data, b""
        return data or await self._below.receive()


class TlsStream:
    """A TLS client over ``below``; ``name`` is the server name, and what its certificate is for.

    ``start`` before anything else. All raise ``ssl.SSLError`` (an ``OSError``), ``start`` also
    ``ssl.SSLCertVerificationError``.
    """

    def __init__(self, below: Stream, context: ssl.SSLContext, name: str) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.first = b""
        """The first bytes that came, which tell what else speaks there if it is not TLS."""

    async def start(self) -> None:
        await self._until_done(self._tls.do_handshake)

    async def send(self, data: bytes) -> None:
        await self._until_done(lambda: self._tls.write(data))

    async def receive(self) -> bytes:
        try:
            return await self._until_done(lambda: self._tls.read(_SIZE))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def _until_done[T](self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
            else:
                await self._flush()
                return result
            if data := await self._below.receive():
                self.first = (self.first + data)[:8]
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._below.send(data)
