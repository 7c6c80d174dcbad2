"""A listener that resets each connection as soon as it stands, before anybody can look at it."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def slamming(patch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of such a listener, for clients of the running event loop."""
    loop = asyncio.get_running_loop()
    connects = loop.sock_connect
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]

        async def sock_connect(sock: socket.socket, address: Any) -> None:
            await connects(sock, address)
            if address[1] == port:
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()

        patch.setattr(loop, "sock_connect", sock_connect)
        yield port
