"""A proxy without a family: the system resolves it, and its addresses are tried side by side."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import Reason
from egress_policy.proxy.dialer import GIVEN_UP
from tests.helpers.clients import http_get
from tests.helpers.lab import V4, V6, egress_metadata, refusal_in
from tests.helpers.origin import Origin, tls_context
from tests.helpers.proxies import HttpProxy, make
from tests.helpers.scene import egress
from tests.helpers.system_names import system_resolves

HELD = (V6, "127.0.0.3")


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The dialled addresses, in order. The addresses of ``HELD`` never answer."""
    found: list[tuple[str, int]] = []
    connects = asyncio.SelectorEventLoop.sock_connect

    async def sock_connect(loop: Any, sock: socket.socket, address: Any) -> None:
        found.append(address[:2])
        if address[0] in HELD:
            await asyncio.Event().wait()
        await connects(loop, sock, address)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    return found


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("tls", ["http", "https"])
async def test_an_address_that_does_not_answer_holds_up_no_flow(
    tls: str,
    kind: str,
    dialled: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system_resolves(monkeypatch, {"proxy.test": (V6, "127.0.0.3", V4)})
    context = tls_context("http/1.1") if tls == "https" else None
    async with Origin(tls=context) as origin, make(kind) as proxy:
        exit_ = {"name": "exit", "type": kind, "host": "proxy.test", "port": proxy.port}
        async with egress(tmp_path, proxies=[exit_], rules=[{"use": "exit"}]) as mitm:
            for _ in range(2):
                answer = await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
                assert answer.status == 200
            first, second = await mitm.wait_for_flows(2)
            guard = mitm.master.addons.get("egressguard")
            assert not any(hop.given_up for hop in guard._live)
        assert GIVEN_UP not in mitm.text
        assert "error establishing server connection" not in mitm.text
        by_us = [address for address, port in dialled if port == proxy.port]
        assert by_us == [V6, "127.0.0.3", V4, V4]  # what answered goes first
        for flow in (first, second):
            assert egress_metadata(flow)["address"] == V4
            assert egress_metadata(flow)["family"] == "auto"


async def test_a_pinned_name_is_tried_side_by_side_too(
    dialled: list[tuple[str, int]], tmp_path: Path
) -> None:
    async with Origin() as origin, HttpProxy() as proxy:
        exit_ = {"name": "exit", "host": "proxy.test", "port": proxy.port, "family": "ipv4"}
        async with egress(tmp_path, proxies=[exit_], rules=[{"use": "exit"}]) as mitm:
            (tmp_path / "hosts").write_text(f"127.0.0.3 proxy.test\n{V4} proxy.test\n")
            mitm.options.update(egress_hosts_file=str(tmp_path / "hosts"))
            assert (await http_get(mitm.port, origin.url())).status == 200
        by_us = [address for address, port in dialled if port == proxy.port]
        assert by_us == ["127.0.0.3", V4]


async def test_a_name_that_the_system_does_not_know_is_a_refusal(tmp_path: Path) -> None:
    exit_ = {"name": "exit", "host": "proxy.invalid", "port": 8080}
    async with egress(tmp_path, proxies=[exit_], rules=[{"use": "exit"}]) as mitm:
        refusal = refusal_in(await http_get(mitm.port, "http://origin.test/"))
    assert (refusal["reason"], refusal["host"]) == (Reason.DNS_FAILURE, "proxy.invalid")
