"""A proxy that fails again and again is left alone, and comes back by itself."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from egress_policy.policy.health import Health
from egress_policy.policy.hop import LEFT, Outcome
from tests.helpers.client_paths import origin_for
from tests.helpers.clients import http_get, session
from tests.helpers.h11_stream import H11Stream
from tests.helpers.lab import V4, egress_metadata, refusal_in
from tests.helpers.origin import Origin, tls_context
from tests.helpers.ports import free_port
from tests.helpers.proxies import HttpProxy, ProxyRequest, Socks5Proxy, entry
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


async def test_a_client_that_does_not_wait_for_the_answer_gives_the_trial_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Outcome] = []
    told = asyncio.Event()

    def report(_: Health, *about: Any, **__: Any) -> None:
        outcomes.append(about[-1])
        if about[-1].step == "attempt":
            told.set()

    monkeypatch.setattr(Health, "report", report)
    async with (
        Origin() as origin,
        HttpProxy() as proxy,
        egress(tmp_path, proxies=[entry("http", proxy)], rules=[{"use": "exit"}]) as mitm,
    ):
        async with session(mitm.port, origin.url()) as client:
            asked = asyncio.create_task(client.get("/hold"))
            await origin.until(lambda: origin.requests)
            assert not told.is_set()
            asked.cancel()
        await asyncio.wait_for(told.wait(), 10)
        assert outcomes[-1].failure is LEFT
        origin.release.set()


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


async def test_a_member_that_asks_for_a_pause_has_one(tmp_path: Path) -> None:
    """It costs one attempt, and no request; only a time that has passed brings it back."""
    async with (
        Origin(tls=tls_context()) as origin,
        HttpProxy() as busy,
        HttpProxy() as good,
        egress(
            tmp_path,
            proxies=[entry("http", busy) | {"name": "busy"}, entry("http", good)],
            pools=[{"name": "homes", "members": ["busy", "exit"], "strategy": "first"}],
            rules=[{"use": "homes"}],
        ) as mitm,
    ):
        busy.status = 429
        url = f"https://{origin.authority}/"
        for _ in range(5):
            assert (await http_get(mitm.port, url, ca=mitm.ca_cert)).status == 200
        assert busy.accepted == 1
        assert "proxy busy: circuit limited: it asked for a pause of 60 s" in mitm.text


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


class Gateway(HttpProxy):
    """Closes the connection where it cannot reach the target."""

    async def _connect(self, client: H11Stream, asked: ProxyRequest) -> None:
        if not asked.target.endswith(":1"):
            await super()._connect(client, asked)


async def test_a_dead_target_blames_no_proxy_that_closes_for_it(tmp_path: Path) -> None:
    async with (
        origin_for(True) as origin,
        Gateway() as proxy,
        egress(tmp_path, proxies=[entry("http", proxy)], rules=[{"use": "exit"}]) as mitm,
    ):
        for _ in range(4):
            answer = await http_get(mitm.port, f"https://{V4}:1/", ca=mitm.ca_cert)
            assert refusal_in(answer)["reason"] == "handshake_failed"
        assert (await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)).status == 200


async def test_an_outcome_that_cannot_be_noted_breaks_no_flow(tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    async with (
        Origin() as origin,
        Socks5Proxy() as good,
        egress(
            tmp_path,
            proxies=[entry("socks5", 1) | {"name": "dead"}, entry("socks5", good)],
            pools=[{"name": "homes", "members": ["dead", "exit"], "strategy": "first"}],
            rules=[{"use": "homes"}],
            expect_errors=True,
        ) as mitm,
    ):
        mitm.master.addons.get("egressselect").router.on_outcome = broken
        assert (await http_get(mitm.port, origin.url())).status == 200
        assert egress_metadata(mitm.flows[-1])["tried"] == "dead:connect_refused"
        await mitm.wait_for_log("could not be noted")
