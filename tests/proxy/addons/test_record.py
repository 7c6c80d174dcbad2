"""What is published of flows that really run: each once, whatever its end, and by which exit."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import pytest

from egress_policy.management.management import Management
from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from tests.helpers.clients import ConnectRefused, connect, http_get, wire
from tests.helpers.lab import Datagrams, WebSocket, egress_metadata, request_to, upgrade
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin, TcpEcho, UdpEcho, WebSocketOrigin
from tests.helpers.proxies import entry
from tests.helpers.scene import egress
from tests.helpers.server import LabServer
from tests.proxy.test_dns_mode import ask
from tests.proxy.test_replay import replay


def management() -> Management:
    config = find(EgressConfig)
    assert config
    return config.management


DEAD = entry("socks5", 1) | {"name": "dead"}
V6 = entry("http", 1) | {"name": "dead", "host": "v4.test", "family": "ipv6"}
ENFORCED = {"exit_in": ["203.0.113.0/24"], "exit_enforce": True}
TO_DEAD = {"use": "dead"}


@pytest.mark.parametrize(
    ("reason", "exit_", "scene"),
    [
        ("connect_refused", "dead", {"proxies": [DEAD], "rules": [TO_DEAD]}),
        ("connect_refused", "dead", {"proxies": [DEAD | {"type": "http"}], "rules": [TO_DEAD]}),
        ("no_record", "dead", {"proxies": [V6], "rules": [TO_DEAD], "hosts": {"v4.test": "::"}}),
        ("disabled", "dead", {"proxies": [DEAD | {"status": "inactive"}], "rules": [TO_DEAD]}),
        (
            "socks5_disabled",
            "dead",
            {"proxies": [DEAD], "rules": [TO_DEAD], "egress_socks5": False},
        ),
        ("exit_unverified", "dead", {"proxies": [DEAD | ENFORCED], "rules": [TO_DEAD]}),
        (
            "connect_refused",
            "dead",
            {
                "proxies": [DEAD | {"name": "first"}, DEAD],
                "pools": [{"name": "both", "members": ["first", "dead"], "strategy": "first"}],
                "rules": [{"use": "both"}],
            },
        ),
        ("literal_contradiction", "direct", {"rules": [{"use": "direct", "family": "ipv6"}]}),
        ("rule", None, {"rules": [{"use": "refuse"}]}),
        ("default", None, {"default": "refuse"}),
    ],
)
async def test_refused_flow_counts_for_the_exit_that_it_was_to_leave_by(
    reason: str, exit_: str | None, scene: dict[str, Any], tmp_path: Path
) -> None:
    async with Origin() as origin, egress(tmp_path, **scene) as mitm:
        for _ in range(2):
            assert (await http_get(mitm.port, origin.url())).status == 503
        await mitm.wait_for_flows(2)
        assert egress_metadata(mitm.flows[0])["reason"] == reason
        found = await management().overviews.show()
        refused = {one.exit: one.refused for one in found.exits.items if one.refused}
        assert refused == ({exit_: 2} if exit_ else {})
        assert sum(found.refused) == 2


class Halting(LabServer):
    """Answers with the head of an answer and a tenth of its body, then cuts the connection, or
    waits until the client has gone."""

    def __init__(self, then: Literal["cut", "wait"]) -> None:
        super().__init__()
        self._then = then

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 100)
        await writer.drain()
        if self._then == "wait":
            await reader.read()


type End = Callable[[Mitm, AsyncExitStack], Awaitable[None]]


async def answered(mitm: Mitm, stack: AsyncExitStack) -> None:
    origin = await stack.enter_async_context(Origin())
    assert (await http_get(mitm.port, origin.url())).status == 200


async def refused(mitm: Mitm, _: AsyncExitStack) -> None:
    assert (await http_get(mitm.port, "http://refused.test/")).status == 503


async def connect_refused(mitm: Mitm, stack: AsyncExitStack) -> None:
    with pytest.raises(ConnectRefused):
        await stack.enter_async_context(connect(mitm.port, "refused.test", 443))


async def target_refuses(mitm: Mitm, _: AsyncExitStack) -> None:
    assert (await http_get(mitm.port, "http://127.0.0.1:1/")).status == 502


async def cut_before_the_answer(mitm: Mitm, stack: AsyncExitStack) -> None:
    origin = await stack.enter_async_context(Origin())
    client = await stack.enter_async_context(wire(mitm.port))
    await client.send(f"GET {origin.url(path='/hold')} HTTP/1.1\r\n\r\n".encode())
    await origin.until(lambda: origin.received.endswith(b"\r\n\r\n"))
    origin.drop_connections()
    assert b"502" in await client.closed()


async def cut_in_the_answer(mitm: Mitm, stack: AsyncExitStack) -> None:
    origin = await stack.enter_async_context(Halting("cut"))
    client = await stack.enter_async_context(wire(mitm.port))
    await client.send(f"GET http://{origin.authority}/ HTTP/1.1\r\n\r\n".encode())
    await client.closed()


async def client_gone_in_the_answer(mitm: Mitm, stack: AsyncExitStack) -> None:
    origin = await stack.enter_async_context(Halting("wait"))
    mitm.options.update(stream_large_bodies="1")
    async with wire(mitm.port) as client:
        await client.send(f"GET http://{origin.authority}/ HTTP/1.1\r\n\r\n".encode())
        await client.receive(10)


async def client_gone_before_the_answer(mitm: Mitm, stack: AsyncExitStack) -> None:
    origin = await stack.enter_async_context(Origin())
    async with wire(mitm.port) as client:
        await client.send(f"GET {origin.url(path='/hold')} HTTP/1.1\r\n\r\n".encode())
        await origin.until(lambda: origin.received.endswith(b"\r\n\r\n"))


async def websocket_closed(mitm: Mitm, stack: AsyncExitStack) -> None:
    await _websocket(mitm, stack, closes=True)


async def websocket_cut(mitm: Mitm, stack: AsyncExitStack) -> None:
    await _websocket(mitm, stack, closes=False)


async def _websocket(mitm: Mitm, stack: AsyncExitStack, closes: bool) -> None:
    origin = await stack.enter_async_context(WebSocketOrigin())
    async with wire(mitm.port) as client:
        place = f"127.0.0.1:{origin.port}"
        assert (await upgrade(client, f"http://{place}/", place)).status == 101
        socket = WebSocket(client)
        await socket.echo("hello")
        if closes:
            await socket.close()


async def replayed(mitm: Mitm, stack: AsyncExitStack) -> None:
    origin = await stack.enter_async_context(Origin())
    await replay(mitm, request_to(origin.url()))


async def raw_tcp(mitm: Mitm, stack: AsyncExitStack) -> None:
    echo = await stack.enter_async_context(TcpEcho())
    async with connect(mitm.port, *echo.address) as tunnel:
        await tunnel.send(b"\x00ping")
        assert await tunnel.receive(5)


async def raw_tcp_cut(mitm: Mitm, stack: AsyncExitStack) -> None:
    echo = await stack.enter_async_context(TcpEcho())
    async with connect(mitm.port, *echo.address) as tunnel:
        await tunnel.send(b"\x00ping")
        assert await tunnel.receive(5)
        echo.drop_connections()
        await tunnel.closed()


async def look_up(mitm: Mitm, _: AsyncExitStack) -> None:
    await ask(mitm.ports[1], "localhost")


ENDS: list[tuple[End, str]] = [
    (answered, "http 200"), (refused, "http 503"), (connect_refused, "http 503"),
    (target_refuses, "http None"), (cut_before_the_answer, "http None"),
    (cut_in_the_answer, "http 200"), (client_gone_in_the_answer, "http 200"),
    (client_gone_before_the_answer, "http None"), (websocket_closed, "websocket 101"),
    (websocket_cut, "websocket 101"), (replayed, "http 200"), (raw_tcp, "tcp None"),
    (raw_tcp_cut, "tcp None"), (look_up, "dns None"),
]  # fmt: skip


@pytest.mark.parametrize(("end", "shown"), ENDS, ids=[end.__name__ for end, _ in ENDS])
async def test_flow_is_published_once_whatever_its_end(
    end: End, shown: str, tmp_path: Path
) -> None:
    rules: list[dict[str, Any]] = [
        {"hosts": ["refused.test"], "use": "refuse"},
        {"name": "out", "use": "direct"},
    ]
    async with AsyncExitStack() as stack:
        async with egress(tmp_path, rules=rules, mode=["regular", "dns"]) as mitm:
            live = management().live
            await end(mitm, stack)
            await mitm.until(lambda: live.since(0))
        [event] = live.since(0)  # all connections are closed now
        assert f"{event.kind} {event.status}" == shown
        assert live.totals.flows == 1
        for flow in (one for one in mitm.flows if one.type != "dns"):
            way = "refused, rule #1" if event.code else "direct.*, rule out.*"
            assert re.fullmatch(way, flow.comment)


@pytest.mark.parametrize("use", ["direct", "refuse"])
async def test_datagrams_are_published_once(use: str, tmp_path: Path) -> None:
    async with UdpEcho() as echo:
        mode = [f"reverse:udp://127.0.0.1:{echo.port}@127.0.0.1:0"]
        async with egress(tmp_path, rules=[{"use": use}], mode=mode) as mitm:
            live = management().live
            async with Datagrams(mitm.port) as client:
                client.send(b"ping")
                if use == "direct":
                    assert await client.receive()
                else:
                    await mitm.until(lambda: live.since(0))
        [event] = live.since(0)
        assert (event.kind, event.use) == ("udp", use)
