"""Clients that knock at every kind of listener, from before it listens until it is closed."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Self

from tests.helpers.ports import free_port
from tests.helpers.server import LabServer

TRANSPARENT = """
from mitmproxy import platform
platform.init_transparent_mode = lambda: None
platform.original_addr = lambda _: {0!r}
"""
"""A script that mitmproxy runs first, with the address of the target."""


@dataclass(frozen=True)
class Door:
    """A mode of mitmproxy with its own port, and what a client sends to reach the target."""

    mode: str
    port: int
    greeting: bytes


def doors(target: LabServer) -> list[Door]:
    """A door for each mode that leads to ``target``, including modes that dial at accept."""
    host, port = target.address
    get = b"GET / HTTP/1.1\r\nhost: target\r\n\r\n"
    absolute = f"GET http://{host}:{port}/ HTTP/1.1\r\nhost: target\r\n\r\n".encode()
    connect = f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode()
    to = b"\x05\x01\x00\x01" + socket.inet_aton(host) + port.to_bytes(2)
    stated = [
        (f"reverse:http://{host}:{port}", get),
        (f"reverse:tcp://{host}:{port}", b""),
        ("transparent", get),
        ("regular", absolute),
        ("regular", connect),
        ("socks5", b"\x05\x01\x00" + to),
        (f"upstream:http://{host}:{port}", absolute),
    ]
    ports = [free_port() for _ in stated]
    return [
        Door(f"{mode}@127.0.0.1:{at}", at, greeting)
        for (mode, greeting), at in zip(stated, ports, strict=True)
    ]


class Knocking:
    """Knocks at all doors continuously. ``opened`` has the ports that accepted a connection."""

    def __init__(self, all_doors: list[Door]) -> None:
        self.opened: set[int] = set()
        self._doors = all_doors
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._knock(door)) for door in self._doors]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def once(self) -> None:
        """Knock once at every door, and wait for the results."""
        await asyncio.gather(*(self._enter(door) for door in self._doors))

    async def _knock(self, door: Door) -> None:
        while not self._over:
            with contextlib.suppress(OSError):
                await self._enter(door)
            await asyncio.sleep(0.002)  # a client's own pause; nothing waits for it

    async def _enter(self, door: Door) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        try:
            self.opened.add(door.port)
            writer.write(door.greeting)
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(0.2):  # a door may stay silent
                    await reader.read()
        finally:
            writer.close()
