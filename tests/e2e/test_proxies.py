"""curl, httpx and websockets through mitmdump and a third-party proxy, to nginx."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.e2e.curl import curl
from tests.e2e.mitmdump import EgressMitmdump, egress, read_http
from tests.e2e.programs import (
    EXIT,
    IPV4,
    IPV6,
    PASSWORD,
    USERNAME,
    danted,
    haproxy,
    microsocks,
    nginx,
    squid,
    tinyproxy,
)
from tests.e2e.system import Program
from tests.helpers.certs import client_context
from tests.helpers.clients import http2_client
from tests.helpers.origin import tls_context

pytestmark = pytest.mark.e2e

KINDS = ("tinyproxy", "squid", "haproxy", "microsocks", "danted")
ACCOUNT = {"username": USERNAME, "password": PASSWORD}


@asynccontextmanager
async def running(kind: str, folder: Path, host: str = IPV4) -> AsyncIterator[dict[str, Any]]:
    """The program (two for haproxy), and the policy's entry for it."""
    async with AsyncExitStack() as stack:

        async def start(program: Program) -> int:
            return (await stack.enter_async_context(program)).port

        match kind:
            case "tinyproxy":
                yield {"type": "http", "port": await start(tinyproxy(folder, host))}
            case "squid":
                yield {"type": "http", "port": await start(squid(folder, host)), **ACCOUNT}
            case "haproxy":
                await start(backend := tinyproxy(folder))
                yield {"type": "https", "port": await start(haproxy(folder, backend, host))}
            case "microsocks":
                yield {"type": "socks5", "port": await start(microsocks(folder, host)), **ACCOUNT}
            case "danted":
                yield {"type": "socks5", "port": await start(danted(folder, host)), **ACCOUNT}


@pytest.mark.parametrize(("host", "family"), [(IPV4, "ipv4"), (IPV6, "ipv6")])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_client_comes_out_of_the_exit(
    tmp_path: Path, kind: str, host: str, family: str
) -> None:
    saved = tmp_path / "saved.flow"
    async with nginx(tmp_path) as origin, running(kind, tmp_path, host) as entry:
        exit_ = {"name": "exit", "host": "proxy.test", "family": family, **entry}
        policy = {"proxies": [exit_], "rules": [{"clients": [IPV4], "use": "exit"}]}
        hosts = {"proxy.test": [IPV4, IPV6]}
        async with egress(
            tmp_path, "-w", str(saved), policy={**policy, "default": "refuse"}, hosts=hosts
        ) as mitm:
            assert await through(mitm, origin) == {
                "curl http": (200, EXIT, "HTTP/1.1"),
                "curl https": (200, EXIT, "HTTP/1.1"),
                "curl http2": (200, EXIT, "HTTP/2.0"),
                "curl's own version": "2",
                "httpx http2": {(200, EXIT, "HTTP/2.0")},
                "ws": EXIT,
                "wss": EXIT,
            }
    flows = read_http(saved)
    assert len(flows) == 3 + 10 + 2
    assert {one.metadata["egress.address"] for one in flows} == {host}
    assert {one.metadata["egress.proxy"] for one in flows} == {"exit"}


async def through(mitm: EgressMitmdump, origin: Program) -> dict[str, Any]:
    """How each client reached the origin."""
    http, https = f"http://{IPV4}:{origin.port}/", f"https://{IPV4}:{origin.tls_port}/"
    return {
        "curl http": (await curl(http, *mitm.proxy)).reached,
        "curl https": (await curl(https, *mitm.proxy, "--http1.1")).reached,
        "curl http2": (http2 := await curl(https, *mitm.proxy, "--http2")).reached,
        "curl's own version": http2.version,
        "httpx http2": await multiplexed(mitm, https),
        "ws": await websocket_peer(mitm),
        "wss": await websocket_peer(mitm, tls_context()),
    }


async def multiplexed(mitm: EgressMitmdump, url: str) -> set[tuple[int, str, str]]:
    async with http2_client(mitm.port, mitm.ca_cert) as client:
        answers = [await client.get(url)]
        answers += await asyncio.gather(*(client.get(url) for _ in range(9)))
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    return {
        (answer.status_code, answer.json()["peer"], answer.json()["protocol"]) for answer in answers
    }


async def websocket_peer(mitm: EgressMitmdump, tls: ssl.SSLContext | None = None) -> str | bytes:
    """The client address that a WebSocket server sees."""

    async def tell(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(connection.remote_address[0])

    async with serve(tell, IPV4, 0, ssl=tls) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(
            f"{'wss' if tls else 'ws'}://{IPV4}:{port}/",
            proxy=f"http://127.0.0.1:{mitm.port}",
            ssl=client_context(mitm.ca_cert) if tls else None,
        ) as client:
            await client.send("who am I?")
            return await client.recv()
