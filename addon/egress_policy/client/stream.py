"""Byte streams that stack: a socket, and TLS over any other stream.

TLS on memory BIOs rather than asyncio's, so that TLS goes through TLS, and no byte from before a
handshake can pass for one from behind it.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

_SIZE: Final = 65536

TlsOf = Callable[[str], ssl.SSLContext]
"""Settings for TLS with a server by its name. They offer no more than HTTP/1.1."""


def without_tls(_name: str) -> ssl.SSLContext:
    """No settings: where TLS is needed nothing is sent."""
    raise ValueError("there are no settings for TLS")


def error_text(error: Exception) -> str:
    """What went wrong with a connection, without what the system was asked for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


class Stream(Protocol):
    """A connection to send and receive bytes. Both raise ``OSError`` where it broke."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """The next bytes, none at the end."""


class SocketStream:
    """A stream over a non-blocking socket. Its owner closes the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        # A peer that sends without a pause would else keep the loop from everything, time limits
        # among it.
        await asyncio.sleep(0)
        return await asyncio.get_running_loop().sock_recv(self._sock, _SIZE)


class Unread:
    """A stream whose first bytes, ``data``, were read with the bytes before them."""

    def __init__(self, below: Stream, data: bytes) -> None:
        self._below = below
        self._data = data

    async def send(self, data: bytes) -> None:
        await self._below.send(data)

    async def receive(self) -> bytes:
        data, self._data = self._data, b""
        return data or await self._below.receive()


class Unbegun(ValueError):
    """TLS cannot be begun here, whatever the peer does."""


class TlsStream:
    """A TLS client over ``below``. ``name`` is the server name, which its certificate must have.

    ``start`` comes before anything else. It raises ``Unbegun`` for a name that no certificate can
    have, and for settings that cannot be had. All raise ``ssl.SSLError`` (an ``OSError``),
    ``start`` also ``ssl.SSLCertVerificationError``.
    """

    _tls: ssl.SSLObject

    def __init__(self, below: Stream, settings: TlsOf, name: str) -> None:
        self._below, self._settings, self._name = below, settings, name
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.first = b""
        """The first bytes that came. They show what else is spoken there if it is not TLS."""

    async def start(self) -> None:
        try:
            context = self._settings(self._name)
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._name)
        except (OSError, ValueError) as error:
            raise Unbegun(error_text(error)) from error
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
