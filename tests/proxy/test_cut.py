"""A flow that ends early says so, and why, wherever its way is shown."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http, tls

from egress_policy.proxy.addons.config import EgressConfig
from egress_policy.proxy.addons.named import find
from egress_policy.proxy.record import line_of
from tests.helpers.clients import connect, http2_client, http_get, wire
from tests.helpers.lab import V4, WebSocket, egress_metadata, tls_for, upgrade
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin, TcpEcho, WebSocketOrigin
from tests.helpers.proxies import HttpProxy, Socks5Proxy, entry
from tests.helpers.scene import egress, reload_policy, write_policy
from tests.helpers.server import LabServer

ENFORCED = {"exit_in": ["203.0.113.0/24"], "exit_enforce": True}
BY = {
    "policy": "the policy changed",
    "exit": "its exit is a wrong one",
    "command": "by egress.cut",
}


class Halfway(LabServer):
    """Answers with a head and half of the body, and waits."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ")
        await reader.read()


def config() -> EgressConfig:
    found = find(EgressConfig)
    assert found
    return found


def saw(address: str) -> None:
    management = config().management
    management.known_exits.seen(management.in_force.snapshot.proxies["exit"], address, "push")


async def cut(by: str, folder: Path, exit_: dict[str, Any]) -> None:
    if by == "policy":
        write_policy(folder / "policy.yaml", proxies=[exit_], rules=[{"use": "refuse"}])
        await reload_policy()
    elif by == "exit":
        saw("198.51.100.1")
    else:
        assert config().cut("exit") == 1


async def headers(mitm: Mitm) -> None:
    """Wait until the head of the answer has come."""
    seen = asyncio.Event()

    class Hears:
        def responseheaders(self, _: Any) -> None:
            seen.set()

    mitm.master.addons.add(Hears())
    await asyncio.wait_for(seen.wait(), 10)


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("by", [*BY, "broken"])
async def test_an_answer_that_is_cut_is_not_shown_as_whole(
    by: str, kind: str, tmp_path: Path
) -> None:
    make = HttpProxy if kind == "http" else Socks5Proxy
    async with Halfway() as origin, make() as proxy:
        exit_ = entry(kind, proxy, **ENFORCED)
        async with egress(tmp_path, proxies=[exit_], rules=[{"use": "exit"}]) as mitm:
            saw("203.0.113.5")
            waiting = asyncio.create_task(http_get(mitm.port, f"http://{origin.authority}/"))
            await headers(mitm)
            if by == "broken":
                origin.drop_connections()
            else:
                await cut(by, tmp_path, exit_)
            await asyncio.gather(waiting, return_exceptions=True)
            (flow,) = await mitm.wait_for_flows(1)
            assert isinstance(flow, http.HTTPFlow)
            assert flow.response
            assert (flow.response.status_code, egress_metadata(flow)["cut"]) == (200, by)
            ending = f", cut: {BY.get(by, 'the answer broke off')}"
            assert str(line_of(flow)).endswith(ending)
            assert flow.comment.endswith(ending)
            (event,) = config().management.live.since(0)
            assert (event.shown()["status"], event.shown()["cut"]) == (200, by)


@pytest.mark.parametrize("by", BY)
async def test_streams_that_are_cut_say_so(by: str, tmp_path: Path) -> None:
    """The WebSocket's event, which its upgrade made, came before."""
    async with Socks5Proxy() as proxy, TcpEcho() as echo, WebSocketOrigin() as origin:
        exit_ = entry("socks5", proxy, **ENFORCED)
        async with egress(tmp_path, proxies=[exit_], rules=[{"use": "exit"}]) as mitm:
            saw("203.0.113.5")
            async with connect(mitm.port, *echo.address) as tunnel, wire(mitm.port) as client:
                await tunnel.send(b"\x00raw")
                await tunnel.receive(4)
                place = f"{V4}:{origin.port}"
                assert (await upgrade(client, f"http://{place}/", place)).status == 101
                assert await WebSocket(client).echo("framed") == "framed"
                if by == "command":
                    assert config().cut("exit") == 2
                else:
                    await cut(by, tmp_path, exit_)
                await tunnel.closed()
                await client.closed()
            await mitm.until(lambda: len(mitm.flows) == 2)
            for flow in mitm.flows:
                assert str(line_of(flow)).endswith(f", cut: {BY[by]}")
            (raw,) = [event for event in config().management.live.since(0) if event.kind == "tcp"]
            assert raw.cut == by


async def test_what_comes_to_its_own_end_says_nothing_of_a_cut(tmp_path: Path) -> None:
    async with Socks5Proxy() as proxy, Origin() as origin, TcpEcho() as echo:
        exit_ = entry("socks5", proxy)
        async with egress(tmp_path, proxies=[exit_], rules=[{"use": "exit"}]) as mitm:
            assert (await http_get(mitm.port, origin.url())).status == 200
            async with connect(mitm.port, *echo.address) as tunnel:
                await tunnel.send(b"\x00raw")
                await tunnel.receive(4)
            await mitm.until(lambda: len(config().management.live.since(0)) == 2)
            await cut("policy", tmp_path, exit_)
            assert (await http_get(mitm.port, origin.url())).status == 503
            flows = [*await mitm.wait_for_flows(2), *mitm.flows]
            assert not any("cut" in egress_metadata(flow) for flow in flows)
            assert not any(event.cut for event in config().management.live.since(0))


class CutsTls:
    """An addon that cuts everything when TLS with a target has begun and so many requests are
    there."""

    def __init__(self, requests: int) -> None:
        self.left = requests
        self.complete = asyncio.Event()
        if not requests:
            self.complete.set()
        self.armed = True

    def request(self, flow: http.HTTPFlow) -> None:
        self.left -= self.armed
        if not self.left:
            self.complete.set()

    async def tls_start_server(self, data: tls.TlsData) -> None:
        if self.armed:
            await self.complete.wait()
            self.armed = False
            config = find(EgressConfig)
            assert config
            asyncio.get_running_loop().call_soon(config.cut)  # once the first bytes are sent


@pytest.mark.parametrize("use", ["exit", "direct"])
@pytest.mark.parametrize("waiting", [0, 3])
async def test_a_client_whose_connection_was_cut_in_tls_gets_another(
    waiting: int, use: str, tmp_path: Path
) -> None:
    each = [{"name": f"r{n}", "filter": f"~u /{n}$", "use": use} for n in range(waiting)]
    async with (
        Origin(tls=tls_for(V4, alpn=["http/1.1"])) as origin,
        Socks5Proxy() as proxy,
        egress(
            tmp_path,
            proxies=[entry("socks5", proxy)],
            rules=[*each, {"use": use}],
            connection_strategy="lazy" if waiting else "eager",
        ) as mitm,
        http2_client(mitm.port, mitm.ca_cert) as client,
    ):
        url = f"https://{V4}:{origin.port}/"
        if waiting:
            assert (await client.get(url)).status_code == 200  # streams are concurrent from now on
        mitm.master.addons.add(CutsTls(waiting))
        together = await asyncio.gather(*(client.get(f"{url}{n}") for n in range(waiting)))
        for number, answer in enumerate(together):
            assert answer.status_code == 503
            assert "were cut by hand" in answer.json()["detail"]
            assert answer.json()["rule"] == f"r{number}"  # its own, not that of who opened it
        for _ in range(2):
            assert (await client.get(url)).status_code == 200
        assert len(origin.requests) == 2 + bool(waiting)
        assert proxy.accepted == (0 if use == "direct" else len(origin.requests) + 1)
