"""Who ended a connection: this process or its peer. Each is told, and judged, for its own ends."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.clients import http_get
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy, entry
from tests.helpers.scene import egress


async def test_a_process_that_stood_still_sees_who_answered_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it wakes, the connection is there, and the time for it is over."""
    monkeypatch.setattr("egress_policy.proxy.dialer.ADDRESS_TIMEOUT", 0.02)
    loop = asyncio.get_running_loop()
    connects = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        connecting = asyncio.ensure_future(connects(sock, address))
        if address[1] == proxy.port:
            await asyncio.sleep(0)
            time.sleep(0.05)  # this is what is tested
        await connecting

    async with Origin() as origin, Socks5Proxy() as proxy:
        monkeypatch.setattr(loop, "sock_connect", sock_connect)
        async with egress(
            tmp_path, proxies=[entry("socks5", proxy)], rules=[{"use": "exit"}]
        ) as mitm:
            assert (await http_get(mitm.port, origin.url())).status == 200
