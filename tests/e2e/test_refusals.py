"""Real proxies decline: the client gets a 503, the origin no request."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.curl import curl
from tests.e2e.mitmdump import egress
from tests.e2e.programs import (
    EXIT,
    IPV4,
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

pytestmark = pytest.mark.e2e

UNREACHABLE = (503, "PROXY_UNREACHABLE")


@pytest.mark.parametrize(
    ("kind", "build", "reason"),
    [
        ("http", lambda folder: squid(folder, password="another"), "proxy_auth"),
        ("socks5", lambda folder: microsocks(folder, password="another"), "proxy_auth"),
        ("socks5", lambda folder: danted(folder, password="another"), "proxy_auth"),
        ("socks5", lambda folder: danted(folder, targets="192.0.2.0/24"), "handshake_failed"),
    ],
    ids=["squid-password", "microsocks-password", "danted-password", "danted-ruleset"],
)
async def test_a_proxy_that_declines_is_a_503(
    tmp_path: Path, kind: str, build: Callable[[Path], Program], reason: str
) -> None:
    async with (
        nginx(tmp_path) as origin,
        build(tmp_path) as proxy,
        egress(tmp_path, policy=only(kind, proxy.port)) as mitm,
    ):
        for url in urls(origin):
            assert (await curl(url, *mitm.proxy)).refused == (*UNREACHABLE, reason)
    assert not (tmp_path / "origin.log").read_text()


async def test_a_proxy_that_stops_is_a_503_from_then_on(tmp_path: Path) -> None:
    async with nginx(tmp_path) as origin, AsyncExitStack() as life:
        proxy = await life.enter_async_context(tinyproxy(tmp_path))
        async with egress(tmp_path, policy=only("http", proxy.port)) as mitm:
            for url in urls(origin):
                assert (await curl(url, *mitm.proxy, "--http1.1")).reached[:2] == (200, EXIT)
            await life.aclose()
            for url in urls(origin):
                refused = (await curl(url, *mitm.proxy)).refused
                assert refused == (*UNREACHABLE, "connect_refused")
    assert len((tmp_path / "origin.log").read_text().splitlines()) == 2


async def test_a_port_the_proxy_allows_no_connect_to_still_takes_forwarded_requests(
    tmp_path: Path,
) -> None:
    async with (
        nginx(tmp_path) as origin,
        tinyproxy(tmp_path, connect_port=443) as proxy,
        egress(tmp_path, policy=only("http", proxy.port)) as mitm,
    ):
        http, https = urls(origin)
        assert (await curl(http, *mitm.proxy)).reached[:2] == (200, EXIT)
        assert (await curl(https, *mitm.proxy)).refused == (*UNREACHABLE, "handshake_failed")


async def test_an_https_proxy_must_prove_its_name(tmp_path: Path) -> None:
    async with (
        nginx(tmp_path) as origin,
        tinyproxy(tmp_path) as backend,
        haproxy(tmp_path, backend, name="other.test") as proxy,
    ):
        policy = only("https", proxy.port, host="proxy.test", family="ipv4")
        async with egress(tmp_path, policy=policy, hosts={"proxy.test": [IPV4]}) as mitm:
            for url in urls(origin):
                refused = (await curl(url, *mitm.proxy)).refused
                assert refused == (*UNREACHABLE, "handshake_failed")
    assert not (tmp_path / "origin.log").read_text()


def only(kind: str, port: int, **more: Any) -> dict[str, Any]:
    """A policy with one exit for everything."""
    account = {"username": USERNAME, "password": PASSWORD}
    entry = {"name": "exit", "type": kind, "host": IPV4, "port": port, **account, **more}
    return {
        "proxies": [entry],
        "rules": [{"clients": [IPV4], "use": "exit"}],
        "default": "refuse",
    }


def urls(origin: Program) -> tuple[str, str]:
    return f"http://{IPV4}:{origin.port}/", f"https://{IPV4}:{origin.tls_port}/"
