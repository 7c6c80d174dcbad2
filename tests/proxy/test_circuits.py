"""A proxy that fails again and again is left alone, and comes back by itself."""

import asyncio
from pathlib import Path

import pytest

from tests.helpers.clients import http_get
from tests.helpers.lab import egress_metadata, refusal_in
from tests.helpers.origin import Origin
from tests.helpers.ports import free_port
from tests.helpers.proxies import Socks5Proxy, entry
from tests.helpers.scene import egress
from tests.helpers.server import LabServer


async def test_a_single_proxy_is_refused_at_once_after_three_faults(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        egress(tmp_path, proxies=[entry("socks5", 1)], rules=[{"use": "exit"}]) as mitm,
    ):
        for _ in range(3):
            answer = await http_get(mitm.port, origin.url())
            assert refusal_in(answer)["reason"] == "connect_refused"
        answer = await http_get(mitm.port, origin.url())
        body = refusal_in(answer)
        assert (body["reason"], body["code"]) == ("circuit_open", "PROXY_UNREACHABLE")
        assert 1 <= int(answer.headers["retry-after"]) <= 6
        assert "3 x connect_refused" in body["detail"]
        await mitm.wait_for_log("proxy exit: circuit opened: 3 x connect_refused")


class Relay(LabServer):
    """A proxy that looks at nothing: it passes on what the one target says, if anything."""

    def __init__(self, said: bytes) -> None:
        super().__init__()
        self.said = said

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.said)
        writer.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"not HTTP\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 407 Mine\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["nothing", "garbage", "101", "407"],
)
async def test_no_target_can_have_a_proxy_left_alone(said: bytes, tmp_path: Path) -> None:
    """Through a proxy that forwards anybody may answer what only a proxy should."""
    async with (
        Relay(said) as proxy,
        egress(tmp_path, proxies=[entry("http", proxy)], rules=[{"use": "exit"}]) as mitm,
    ):
        for _ in range(4):
            body = refusal_in(await http_get(mitm.port, "http://192.0.2.1/"))
            assert body["reason"] in ("handshake_failed", "proxy_auth")
        assert proxy.accepted == 4


async def test_health_ignore_switches_the_circuit_off(tmp_path: Path) -> None:
    async with (
        Origin() as origin,
        egress(
            tmp_path, proxies=[entry("socks5", 1, health="ignore")], rules=[{"use": "exit"}]
        ) as mitm,
    ):
        for _ in range(5):
            answer = await http_get(mitm.port, origin.url())
            assert refusal_in(answer)["reason"] == "connect_refused"


@pytest.mark.parametrize("strategy", ["first", "round-robin", "random", "latency", "sticky"])
async def test_a_dead_member_costs_three_attempts_and_no_request(
    strategy: str, tmp_path: Path
) -> None:
    async with (
        Origin() as origin,
        Socks5Proxy() as good,
        egress(
            tmp_path,
            proxies=[entry("socks5", 1) | {"name": "dead"}, entry("socks5", good)],
            pools=[{"name": "homes", "members": ["dead", "exit"], "strategy": strategy}],
            rules=[{"use": "homes"}],
        ) as mitm,
    ):
        for _ in range(20):
            assert (await http_get(mitm.port, origin.url())).status == 200
        said = [egress_metadata(flow) for flow in mitm.http_flows]
        assert {one["proxy"] for one in said} == {"exit"}
        assert sum(one["attempt"] == 2 for one in said) <= 3


async def test_a_proxy_that_works_again_is_greeted_and_used(tmp_path: Path) -> None:
    """No request pays for finding out: the greetings do it in the background."""
    proxy = Socks5Proxy()
    proxy.port = free_port()
    async with (
        Origin() as origin,
        egress(tmp_path, proxies=[entry("socks5", proxy)], rules=[{"use": "exit"}]) as mitm,
    ):
        for _ in range(3):
            assert (await http_get(mitm.port, origin.url())).status == 503
        await mitm.wait_for_log("circuit opened")
        async with proxy:
            await mitm.wait_for_log("proxy exit: circuit closed", timeout=15)
            assert proxy.requests == []
            assert (await http_get(mitm.port, origin.url())).status == 200
