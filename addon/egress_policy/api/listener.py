"""The connections of the listener: how fast they come, how many are open, how each ends.

Flows run in the same loop, so strangers may take little of its time, memory and descriptors. They
are accepted at a bounded rate, and only so many connections are open at once. A connection that
sends single bytes is read more and more rarely; an idle connection is closed. An authenticated peer
counts against no rate and is never closed for a newcomer. When the process has no descriptor left,
the reserve is used. Nothing here knows HTTP.
"""

import asyncio
import contextlib
import errno
import functools
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from ..log import get_logger
from .reserve import Reserve

logger = get_logger(__name__)

OPEN: Final = 64
"""Open connections at most. A further one closes the oldest connection of a stranger."""
BURST: Final = 200
RATE: Final = 50.0
"""Strangers that are accepted at once, and each second after that."""
SEND_TIME: Final = 30.0
"""Seconds that a peer has for each piece of an answer."""
LINGER: Final = (2.0, 256 * 1024)
LINGER_KNOWN: Final = (20.0, 8 * 1024 * 1024)
"""Seconds for which, and bytes up to which, a closing connection drops what a stranger, or a known
peer, still sends."""

SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the system lacks when it cannot accept a connection or open a file."""

_PIECE: Final = 64 * 1024
"""Bytes that are read or sent at once."""
_CRUMB: Final = 4 * 1024
_SHORTEST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25
"""A piece of fewer bytes than a crumb lets the next read wait: these seconds, doubled each time."""
_RETRY: Final = 1.0
"""Seconds until the next attempt to accept, when the system lacks something."""
_FILES: Final = 3
"""Descriptors for the block of ``spared``. Other threads may be faster with one."""


class Allowance:
    """A burst at once, then a rate a second; ``clock`` gives seconds."""

    def __init__(self, burst: int, rate: float, clock: Callable[[], float]) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._left, self._at = float(burst), clock()

    def take(self) -> float:
        """Take a place, and return the seconds to wait before using it."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._left / self._rate)

    def give_back(self) -> None:
        self._left = min(self._burst, self._left + 1)


class ClientConnection:
    """An accepted socket that sends and receives within bounds of pace and time.

    Every method raises ``OSError`` if the peer is gone or too slow.
    """

    def __init__(self, accepted: socket.socket, peer: str, newcomers: Allowance) -> None:
        self.peer = peer
        """The peer's IP literal."""
        self.is_known = False
        self._socket, self._newcomers = accepted, newcomers
        self._pause = 0.0
        with contextlib.suppress(OSError):  # the peer may have gone already
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def welcome(self) -> None:
        """Treat the peer as known from now on: it has authenticated itself."""
        self.is_known = True
        self._newcomers.give_back()

    async def receive(self) -> bytes:
        """The bytes that have arrived, empty at the end of the stream.

        Each small piece makes the next call wait longer, while more bytes gather: a peer that
        sends single bytes costs no more than one that sends large pieces.
        """
        await asyncio.sleep(self._pause)
        received = await asyncio.get_running_loop().sock_recv(self._socket, _PIECE)
        is_crumb = len(received) < _CRUMB
        self._pause = min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, 2 * self._pause)) if is_crumb else 0
        return received

    async def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), _PIECE):
            async with asyncio.timeout(SEND_TIME):
                await loop.sock_sendall(self._socket, data[start : start + _PIECE])

    async def while_open(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until it is done, or until the peer closes or sends anything more."""
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(self.receive())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def linger(self) -> None:
        """Shut the sending side down, and drop what the peer still sends.

        The system resets a connection that is closed with unread bytes, and the peer may then lose
        the answer.
        """
        seconds, left = LINGER_KNOWN if self.is_known else LINGER
        self.is_known = False
        self._socket.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(seconds):
            while left > 0 and (received := await self.receive()):
                left -= len(received)


class Listener:
    """Accepts at ``bound`` and serves each connection in a task of its own, from ``start`` to
    ``stop``. ``serve`` may raise ``OSError``."""

    def __init__(
        self,
        bound: socket.socket,
        serve: Callable[[ClientConnection], Coroutine[Any, Any, None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bound, self._serve = bound, serve
        self._newcomers = Allowance(BURST, RATE, clock)
        self._open: dict[asyncio.Task[None], ClientConnection] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self._reserve = Reserve()
        self._accepting: asyncio.Task[None] | None = None

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._accepting = loop.create_task(self._accept(), name="egress API accept")

    def share(self) -> socket.socket:
        """A duplicate of the socket, for another listener."""
        return self._bound.dup()

    @contextlib.contextmanager
    def spared(self) -> Iterator[None]:
        """Room for files that are opened one by one within the block, when the process has no
        descriptor left. The block must not wait: flows would take the place."""
        for _ in range(_FILES):
            self._reserve.give_up()
        try:
            yield
        finally:
            self._reserve.fill()

    def stop(self) -> None:
        """Close the port at once, and what is open in the next turns of the loop."""
        accepting, self._accepting = self._accepting, None
        if accepting is None:
            return
        accepting.cancel()
        accepting.get_loop().remove_reader(self._bound)  # its number may be used again at once
        self._bound.close()
        self._reserve.close()
        for task in tuple(self._open):
            self._end(task)

    async def _accept(self) -> None:
        loop, is_short = asyncio.get_running_loop(), False
        while True:
            await asyncio.sleep(self._newcomers.take())
            await self._room()
            try:
                accepted, address = await loop.sock_accept(self._bound)
            except OSError as error:
                if error.errno not in SHORTAGES or self._accept_by_reserve():
                    continue  # or the peer has gone again
                if not is_short:
                    logger.warning("Egress management API cannot accept: %s", error.strerror)
                is_short = True
                await asyncio.sleep(_RETRY)
            else:
                is_short = False
                self._take(accepted, address[0])

    def _accept_by_reserve(self) -> bool:
        """Accept in the place of a descriptor that was set aside; false if that cannot be.

        All in one turn of the loop: flows would take the place in the next one.
        """
        if not self._reserve.give_up():
            return False
        try:
            accepted, address = self._bound.accept()
        except OSError as error:
            self._reserve.fill()
            return error.errno not in SHORTAGES  # else the peer has gone again
        accepted.setblocking(False)
        self._take(accepted, address[0])
        return True

    async def _room(self) -> None:
        """Wait until there is a place, free or taken by a stranger."""
        while self.open >= OPEN and self._longest_stranger() is None:
            self._left.clear()
            await self._left.wait()

    def _take(self, accepted: socket.socket, peer: str) -> None:
        connection = ClientConnection(accepted, peer, self._newcomers)
        task = asyncio.get_running_loop().create_task(
            self._visit(connection), name="egress API connection"
        )
        self._open[task] = connection
        task.add_done_callback(functools.partial(self._over, connection))
        if self.open > OPEN and (longest := self._longest_stranger()):
            self._end(longest)

    async def _visit(self, connection: ClientConnection) -> None:
        with contextlib.suppress(OSError):
            await self._serve(connection)
            await connection.linger()

    def _longest_stranger(self) -> asyncio.Task[None] | None:
        return next((task for task, one in self._open.items() if not one.is_known), None)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        self._ending.add(task)
        task.cancel()

    def _over(self, connection: ClientConnection, task: asyncio.Task[None]) -> None:
        connection.close()
        if self._accepting:
            self._reserve.fill()
        self._open.pop(task, None)
        self._ending.discard(task)
        self._left.set()
        if not task.cancelled() and (error := task.exception()):
            logger.error("Egress management API: unexpected", exc_info=error)
