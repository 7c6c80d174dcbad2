"""Tests of real proxies: what is asked, what is measured, and what is told when it fails."""

import asyncio
from typing import Any

import pytest

from egress_policy.client.probe import ProbeLimits, probe
from egress_policy.errors import Reason
from egress_policy.model.target_url import parse_target_url
from egress_policy.policy import hop as limits_of_flows
from egress_policy.policy.fault import Cause
from tests.client.scene import (
    CREDENTIALS,
    PATIENT,
    SEEN,
    EchoOrigin,
    failed,
    lab_proxy,
    probed,
    route_to,
    scene,
)
from tests.helpers.lab import V4
from tests.helpers.origin import TcpEcho, tls_context
from tests.helpers.proxies import Faults, HttpProxy
from tests.helpers.server import LabServer


@pytest.mark.parametrize("trickle", [False, True])
@pytest.mark.parametrize("credentials", [None, CREDENTIALS])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_asks_the_target_through_the_proxy(
    type_: str, secure: bool, credentials: Any, trickle: bool
) -> None:
    tls = tls_context("http/1.1") if secure else None
    faults = Faults(trickle=trickle)
    async with scene(type_, tls, credentials=credentials, faults=faults) as (proxy, origin):
        username, password = credentials or ("", "")
        route = route_to(proxy, type_, username=username, password=password)
        result = await probed(route, origin.url("origin.test", "/ip?x=1"))
        assert result.refusal is None
        assert (result.status, result.egress_ip) == (200, SEEN)
        assert (result.address, result.peer_family) == (V4, "ipv4")
        steps = (result.connect_ms, result.handshake_ms, result.first_byte_ms)
        assert all(step is not None and step >= 0 for step in steps)
        assert sum(filter(None, steps)) <= result.total_ms
        assert result.dns_ms is None
        (asked,) = proxy.requests
        assert asked.target == f"origin.test:{origin.port}"
        assert asked.credentials == credentials
        (request,) = origin.requests
        assert (request["method"], request["path"]) == ("GET", "/ip?x=1")
        assert request["headers"]["host"] == f"origin.test:{origin.port}"
        assert "proxy-authorization" not in request["headers"]


@pytest.mark.parametrize(
    ("type_", "plain_http", "verb"),
    [("http", "forward", "GET"), ("http", "connect", "CONNECT"), ("https", "forward", "GET")],
)
async def test_plain_http_goes_as_the_proxy_is_set(type_: str, plain_http: str, verb: str) -> None:
    async with scene(type_) as (proxy, origin):
        result = await probed(
            route_to(proxy, type_, plain_http=plain_http), origin.url("origin.test")
        )
        assert result.egress_ip == SEEN
        assert proxy.requests[0].line.split()[0] == verb


@pytest.mark.parametrize("plain_http", ["forward", "connect"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [(407, Reason.PROXY_AUTH), (403, Reason.HANDSHAKE_FAILED), (502, Reason.HANDSHAKE_FAILED)],
)
async def test_status_of_the_proxy_is_told(status: int, reason: Reason, plain_http: str) -> None:
    async with scene("http") as (proxy, origin):
        assert isinstance(proxy, HttpProxy)
        proxy.status = status
        found, detail = await failed(
            route_to(proxy, plain_http=plain_http), origin.url("origin.test")
        )
        assert found is reason
        assert str(status) in detail


async def test_certificate_of_the_target_is_checked_for_its_name() -> None:
    async with (
        EchoOrigin(tls=tls_context()) as origin,
        lab_proxy("socks5", {"impostor.test": origin.address}) as proxy,
    ):
        reason, detail = await failed(route_to(proxy, "socks5"), origin.url("impostor.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "TLS with the target failed: Hostname mismatch" in detail
        assert origin.requests == []


async def test_without_settings_for_tls_nothing_is_sent() -> None:
    async with scene("https") as (proxy, origin):
        route, url = route_to(proxy, "https"), parse_target_url(origin.url("origin.test"))
        result = await probe(route, url, limits=PATIENT)
        assert result.refusal
        assert "there are no settings for TLS" in result.refusal.detail
        assert proxy.requests == []


async def test_target_that_does_not_answer_ends_the_test() -> None:
    async with scene("socks5") as (proxy, origin):
        route, url = route_to(proxy, "socks5"), origin.url("origin.test", "/hold")
        found = await failed(route, url, ProbeLimits(60, 60, 0.5))
        text = "Proxy dc: no answer came through it within 0.5 s"
        assert found == (Reason.HANDSHAKE_FAILED, text)


@pytest.mark.parametrize(
    ("type_", "path", "cause"),
    [
        ("socks5", "/hold", Cause.UNDECIDED),
        ("http", "/hold", Cause.UNDECIDED),
        ("http", "/status/500", Cause.UNDECIDED),
        ("http", "/status/407", Cause.CREDENTIALS),
    ],
)
async def test_failure_behind_the_hop_blames_nobody_by_itself(
    type_: str, path: str, cause: Cause
) -> None:
    async with scene(type_) as (proxy, origin):
        result = await probed(
            route_to(proxy, type_), origin.url("origin.test", path), ProbeLimits(60, 60, 0.5)
        )
    assert result.failure
    assert result.failure.cause is cause
    assert result.hop_ms is not None


async def test_tls_that_fails_behind_the_tunnel_blames_nobody_by_itself() -> None:
    async with scene("socks5") as (proxy, origin):
        url = origin.url("origin.test").replace("http:", "https:")
        result = await probed(route_to(proxy, "socks5"), url)
    assert result.failure
    assert result.failure.cause is Cause.UNDECIDED


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_what_the_proxy_costs_is_measured_without_the_target(type_: str) -> None:
    async with scene(type_, tls_context("http/1.1")) as (proxy, origin):
        result = await probed(route_to(proxy, type_), origin.url("origin.test"))
    assert result.connect_ms is not None
    assert result.handshake_ms is not None
    assert result.hop_ms is not None
    assert result.connect_ms <= result.hop_ms <= result.connect_ms + result.handshake_ms


async def test_proxy_that_fails_before_it_is_asked_has_no_cost() -> None:
    async with scene("socks5", faults=Faults(reset="handshake")) as (proxy, origin):
        result = await probed(route_to(proxy, "socks5"), origin.url("origin.test"))
    assert (result.hop_ms, result.failure and result.failure.cause) == (None, Cause.BROKEN)


def test_a_test_has_the_limits_of_a_flow() -> None:
    limits = ProbeLimits()
    assert (limits.address, limits.connect, limits.handshake) == (
        limits_of_flows.ADDRESS_TIMEOUT,
        limits_of_flows.CONNECT_TIMEOUT,
        limits_of_flows.HANDSHAKE_TIMEOUT,
    )


async def test_answer_that_is_no_http_fails() -> None:
    async with TcpEcho() as echo, lab_proxy("socks5", {"echo.test": echo.address}) as proxy:
        reason, detail = await failed(route_to(proxy, "socks5"), f"http://echo.test:{echo.port}/")
        assert reason is Reason.HANDSHAKE_FAILED
        assert "no answer of HTTP came through it" in detail


class Curt(LabServer):
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")


async def test_target_that_closes_unanswered_fails() -> None:
    async with Curt() as curt, lab_proxy("socks5", {"curt.test": curt.address}) as proxy:
        reason, detail = await failed(route_to(proxy, "socks5"), f"http://curt.test:{curt.port}/")
        assert reason is Reason.HANDSHAKE_FAILED
        assert "without an answer" in detail


@pytest.mark.parametrize("status", [204, 301, 404, 500])
async def test_any_answer_through_a_tunnel_is_one(status: int) -> None:
    async with scene("socks5") as (proxy, origin):
        url = origin.url("origin.test", f"/status/{status}")
        result = await probed(route_to(proxy, "socks5"), url)
        assert (result.status, result.refusal) == (status, None)
        assert result.egress_ip is None, "it is no answer to the question"


async def test_body_is_read_no_further_than_it_may_say_an_address() -> None:
    async with scene("socks5") as (proxy, origin):
        url = origin.url("origin.test", "/stream?chunks=10000&size=10000")
        result = await probed(route_to(proxy, "socks5"), url)
        assert (result.status, result.egress_ip, result.refusal) == (200, None, None)
