"""``max_connections``: a proxy that is full gets no further connection."""

import asyncio
from itertools import islice
from pathlib import Path

import pytest

from tests.helpers.clients import connect, http_get, session
from tests.helpers.lab import V4, egress_metadata, refusal_in
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.proxies import Socks5Proxy, entry
from tests.helpers.scene import egress


async def test_a_single_proxy_that_is_full_refuses_until_a_connection_ends(tmp_path: Path) -> None:
    async with (
        Socks5Proxy() as proxy,
        TcpEcho() as target,
        Origin() as origin,
        egress(
            tmp_path,
            proxies=[entry("socks5", proxy, max_connections=1)],
            rules=[{"use": "exit"}],
        ) as mitm,
    ):
        async with connect(mitm.port, V4, target.port) as tunnel:
            await tunnel.send(b"\x00raw")
            assert await tunnel.reader.readexactly(4) == b"\x00raw"
            answer = await http_get(mitm.port, origin.url())
            body = refusal_in(answer)
            assert (body["reason"], body["code"]) == ("limit_reached", "PROXY_UNREACHABLE")
            assert "error=connection_limit_reached" in answer.headers["proxy-status"]
            assert int(answer.headers["retry-after"]) >= 1
            assert origin.requests == []
        await proxy.until(lambda: not proxy.open)
        await mitm.wait_for_log("server disconnect")
        assert (await http_get(mitm.port, origin.url())).status == 200


@pytest.mark.parametrize("strategy", ["first", "round-robin"])
async def test_a_full_member_is_left_out(strategy: str, tmp_path: Path) -> None:
    async with (
        Socks5Proxy() as full,
        Socks5Proxy() as spare,
        TcpEcho() as target,
        Origin() as origin,
        egress(
            tmp_path,
            proxies=[
                entry("socks5", full, max_connections=1) | {"name": "full"},
                entry("socks5", spare) | {"name": "spare"},
            ],
            pools=[{"name": "homes", "members": ["full", "spare"], "strategy": strategy}],
            rules=[{"use": "homes"}],
        ) as mitm,
        connect(mitm.port, V4, target.port) as tunnel,
    ):
        await tunnel.send(b"\x00raw")
        assert await tunnel.reader.readexactly(4) == b"\x00raw"
        for _ in range(3):
            assert (await http_get(mitm.port, origin.url())).status == 200
        assert {egress_metadata(flow)["proxy"] for flow in mitm.http_flows} == {"spare"}
        assert full.accepted == 1


async def test_many_at_once_never_pass_the_limit(tmp_path: Path) -> None:
    """The limit holds at the dial, not only when the egress is chosen."""
    async with (
        Socks5Proxy() as proxy,
        Origin() as origin,
        egress(
            tmp_path,
            proxies=[entry("socks5", proxy, max_connections=3)],
            rules=[{"use": "exit"}],
        ) as mitm,
    ):
        asked = [
            asyncio.create_task(http_get(mitm.port, f"http://{origin.authority}/hold"))
            for _ in range(12)
        ]
        for early in islice(asyncio.as_completed(asked), 9):
            assert refusal_in(await early)["reason"] == "limit_reached"
        origin.release.set()
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 9
        assert proxy.accepted == 3


async def test_a_kept_connection_of_a_full_proxy_serves_the_next_request(tmp_path: Path) -> None:
    async with (
        Socks5Proxy() as proxy,
        Origin() as origin,
        egress(
            tmp_path,
            proxies=[entry("socks5", proxy, max_connections=1)],
            rules=[{"use": "exit"}],
        ) as mitm,
        session(mitm.port, origin.url()) as client,
    ):
        for _ in range(3):
            assert (await client.request("GET", "/")).status == 200
        assert proxy.accepted == 1
        assert refusal_in(await http_get(mitm.port, origin.url()))["reason"] == "limit_reached"
