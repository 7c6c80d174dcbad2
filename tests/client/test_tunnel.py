"""Handshakes with real proxies: what they are asked for, and every way to fail."""

import asyncio
from typing import Any

import pytest

from egress_policy.client.probe import ProbeLimits
from egress_policy.errors import Reason
from egress_policy.wire.hint import SILENT_TO_SOCKS, SILENT_TO_TLS
from tests.client.scene import (
    HASTY,
    SEEN,
    EchoOrigin,
    failed,
    lab_proxy,
    probed,
    route_to,
    scene,
)
from tests.helpers.lab import V4
from tests.helpers.origin import tls_context
from tests.helpers.proxies import Faults, Socks5Proxy
from tests.helpers.server import Stream


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("type_", ["http", "socks5"])
async def test_literal_of_the_target_is_what_the_proxy_is_asked_for(
    type_: str, secure: bool
) -> None:
    tls = tls_context() if secure else None
    async with EchoOrigin(tls=tls) as origin, lab_proxy(type_, {}) as proxy:
        route = route_to(proxy, type_, target=f"{V4}:{origin.port}", target_family="ipv4")
        result = await probed(route, origin.url("origin.test"))
        assert result.egress_ip == SEEN
        assert proxy.targets == [f"{V4}:{origin.port}"]
        assert not proxy.requests[0].line.startswith("GET")


@pytest.mark.parametrize("moment", ["accept", "handshake"])
@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_proxy_that_says_nothing_is_given_up(type_: str, moment: Any) -> None:
    tls = tls_context()
    async with scene(type_, tls, faults=Faults(stall=moment)) as (proxy, origin):
        found = await failed(route_to(proxy, type_), origin.url("origin.test"), HASTY)
        text = "Proxy dc: no end of the handshake in 0.3 s"
        text += {"socks5": SILENT_TO_SOCKS, "https": SILENT_TO_TLS * (moment == "accept")}.get(
            type_, ""
        )
        assert found == (Reason.HANDSHAKE_FAILED, text)
        assert origin.accepted == 0


@pytest.mark.parametrize(
    ("type_", "faults", "fault", "seconds"),
    [
        ("https", Faults(stall="accept"), "proxy", None),
        ("http", Faults(stall="handshake"), "undecided", None),
        ("socks5", Faults(stall="handshake"), "proxy", None),
        ("socks5", Faults(stall="reply"), "undecided", None),
        ("http", Faults(garbage=b"HTTP/1.1 503 Busy\r\n"), "undecided", None),
        ("http", Faults(garbage=b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n"), "proxy", 7.0),
    ],
)
async def test_silence_is_the_targets_only_where_the_proxy_knew_it(
    type_: str, faults: Faults, fault: str, seconds: float | None
) -> None:
    async with scene(type_, tls_context(), faults=faults) as (proxy, origin):
        result = await probed(route_to(proxy, type_), origin.url("origin.test"), HASTY)
    assert result.refusal
    assert (result.refusal.fault, result.refusal.retry_after) == (fault, seconds)
    assert result.refusal.fails_over
    assert ("503 Busy" in result.refusal.detail) is bool(faults.garbage)


@pytest.mark.parametrize(
    "faults",
    [Faults(reset="accept"), Faults(reset="handshake"), Faults(garbage=b"SSH-2.0-x\r\n")],
    ids=["reset at once", "reset in the handshake", "garbage"],
)
@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_proxy_that_breaks_the_handshake_fails(type_: str, faults: Faults) -> None:
    async with scene(type_, tls_context(), faults=faults) as (proxy, origin):
        reason, _ = await failed(route_to(proxy, type_), origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert origin.accepted == 0


@pytest.mark.parametrize("code", range(1, 9))
async def test_reply_of_the_proxy_is_told(code: int) -> None:
    async with scene("socks5") as (proxy, origin):
        assert isinstance(proxy, Socks5Proxy)
        proxy.reply = code
        reason, detail = await failed(route_to(proxy, "socks5"), origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "the SOCKS5 proxy answered: " in detail


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_wrong_password_is_told(type_: str) -> None:
    tls = tls_context()
    async with scene(type_, tls, credentials=("alice", "another")) as (proxy, origin):
        route = route_to(proxy, type_, username="alice", password="s3cret")
        reason, _ = await failed(route, origin.url("origin.test"))
        assert reason is Reason.PROXY_AUTH


async def test_certificate_of_an_https_proxy_is_checked_for_its_name() -> None:
    async with scene("https") as (proxy, origin):
        route = route_to(proxy, "https", host="impostor.test", username="u", password="s3cret")
        reason, detail = await failed(route, origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "TLS with the proxy failed: Hostname mismatch" in detail
        assert proxy.requests == []


class Slow(Socks5Proxy):
    """Takes its time for the handshake."""

    async def dial(self, host: str, port: int) -> Stream:
        await asyncio.sleep(0.4)
        return await super().dial(host, port)


async def test_a_slow_handshake_takes_nothing_from_the_limits_of_other_steps() -> None:
    async with EchoOrigin() as origin, Slow(resolve={"origin.test": origin.address}) as proxy:
        limits = ProbeLimits(0.3, 60, 60, 0.3)
        result = await probed(route_to(proxy, "socks5"), origin.url("origin.test"), limits)
    assert result.refusal is None
    assert (result.handshake_ms or 0) > 300


async def test_bytes_of_the_proxy_before_tls_of_the_target_are_no_answer() -> None:
    behind = b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"ip":"::1"}\n'
    async with scene("socks5", tls_context(), faults=Faults(behind=behind)) as (proxy, origin):
        reason, detail = await failed(route_to(proxy, "socks5"), origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "TLS with the target failed" in detail
