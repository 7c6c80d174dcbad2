"""Dialling: only the addresses of the pin, in order, side by side, and never a wrong peer."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from egress_policy.client.dial import Refused, dial
from egress_policy.client.own_machine import is_own_host
from egress_policy.errors import Reason
from egress_policy.model.proxy import Proxy
from egress_policy.policy import hop as limits_of_flows
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import Outcome
from egress_policy.policy.listeners import Listeners
from tests.client.scene import (
    HASTY,
    EchoOrigin,
    failed,
    lab_proxy,
    probed,
    route_to,
    scene,
)
from tests.helpers.lab import V4, V6, dual_stack
from tests.helpers.origin import Origin
from tests.helpers.routes import route_by


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
@pytest.mark.parametrize(("address", "family"), [(V4, 4), (V6, 6)])
async def test_dials_the_pinned_family_alone(type_: str, address: str, family: int) -> None:
    async with Origin() as origin:
        resolve = {"origin.test": origin.address}
        async with dual_stack(lab_proxy(type_, resolve)) as proxy:
            result = await probed(route_to(proxy, type_, (address,)), origin.url("origin.test"))
            assert result.refusal is None
            assert (result.address, result.peer_family) == (address, f"ipv{family}")
            assert proxy.families == [family]


async def test_pinned_family_that_does_not_answer_is_not_left() -> None:
    async with scene("http") as (proxy, origin):
        reason, detail = await failed(route_to(proxy, addresses=(V6,)), origin.url("origin.test"))
        assert reason is Reason.CONNECT_REFUSED
        assert detail == f"Proxy dc: cannot connect to ::1 port {proxy.port}: Connection refused"
        assert proxy.accepted == 0


async def test_addresses_are_dialled_in_order_until_one_accepts() -> None:
    async with scene("http") as (proxy, origin):
        result = await probed(
            route_to(proxy, addresses=("127.0.0.2", V4)), origin.url("origin.test")
        )
        assert result.refusal is None
        assert result.address == V4
        assert proxy.accepted == 1


async def test_what_came_of_each_address_is_told() -> None:
    async with scene("http") as (proxy, _):
        told = list[Outcome]()
        route = route_to(proxy, addresses=("127.0.0.2", V4))
        with await dial(route, 60, on_dial=told.append):
            pass
    refused, accepted = told
    assert (refused.step, refused.address) == (accepted.step, "127.0.0.2") == ("dial", "127.0.0.2")
    assert refused.failure
    assert refused.failure.cause is Cause.REFUSED
    assert (accepted.address, accepted.failure) == (V4, None)
    assert refused.began <= refused.ended <= accepted.began <= accepted.ended


@contextlib.contextmanager
def unanswering() -> Iterator[int]:
    """A port of 127.0.0.3 where connections stay in the queue: further ones get no answer."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.3", 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_an_address_that_does_not_answer_is_given_up() -> None:
    with unanswering() as port:
        async with EchoOrigin() as origin:
            route = route_to(origin, addresses=("127.0.0.3",), port=port)
            reason, detail = await failed(route, origin.url(), HASTY)
    assert reason is Reason.CONNECT_TIMEOUT
    assert detail == f"Proxy dc: no answer from 127.0.0.3 port {port} within 0.3 s"


async def test_few_of_many_addresses_are_dialled_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    under_way, most, dialled = 0, 0, list[str]()

    async def sock_connect(loop: Any, sock: socket.socket, address: Any) -> None:
        nonlocal under_way, most
        dialled.append(address[0])
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.Event().wait()
        finally:
            under_way -= 1

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", sock_connect)
    addresses = tuple(f"192.0.2.{number}" for number in range(1, 61))
    async with EchoOrigin() as origin:
        route = route_to(origin, addresses=addresses)
        with pytest.raises(Refused, match=r"no answer from 192\.0\.2\.[0-9]+ port"):
            await dial(route, 0.01, stagger=0.001)
        assert (tuple(dialled), most) == (addresses, limits_of_flows.AT_ONCE)
        dialled.clear()
        with pytest.raises(Refused, match="no answer"):
            await dial(route, 0.1, overall=0.15, stagger=0.001)
        assert len(dialled) < 10


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_a_descriptor_no_further_address_is_dialled(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def no_socket(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise OSError(number, os.strerror(number))

    async with EchoOrigin() as origin:
        route, url = route_to(origin, addresses=("127.0.0.2", V4)), origin.url()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", no_socket)
            reason, detail = await failed(route, url)
    assert (asked, reason) == (1, Reason.ERROR)
    assert "ulimit -n" in detail


async def test_an_address_that_does_not_answer_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    connects = loop.sock_connect
    held: list[socket.socket] = []

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.3":
            held.append(sock)
            await asyncio.Event().wait()
        await connects(sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    async with scene("http") as (proxy, origin):
        route = route_to(proxy, addresses=("127.0.0.3", "127.0.0.4", V4))  # the second one refuses
        result = await probed(route, origin.url("origin.test"))
        assert (result.refusal, result.address) == (None, V4)
        assert [sock.fileno() for sock in held] == [-1]


async def test_of_two_that_answer_one_is_used_and_the_other_closed() -> None:
    async with scene("http") as (proxy, _):
        with await dial(route_to(proxy, addresses=(V4, V4)), 1, stagger=0):
            pass
        await proxy.until(lambda: not proxy.open)


async def test_without_addresses_nothing_is_dialled() -> None:
    route = route_by(Proxy(name="dc", host="proxy.test"), ())
    with pytest.raises(Refused, match="no address"):
        await dial(route, 1)


async def test_a_connection_to_another_peer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    connects = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        await connects(sock, (V4, address[1]))  # as where something rewrites connections

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    async with scene("http") as (proxy, origin):
        route = route_to(proxy, addresses=("127.0.0.2", V4))
        reason, detail = await failed(route, origin.url("origin.test"))
        assert reason is Reason.PEER_MISMATCH
        assert detail == f"Proxy dc: connected to {V4} where 127.0.0.2 was pinned"
        await proxy.until(lambda: not proxy.open)
        assert proxy.requests == []


async def test_connection_that_loops_back_is_not_spoken_to() -> None:
    async with scene("http") as (proxy, origin):
        listeners = Listeners(is_own_host)
        listeners.of_proxy = lambda: [proxy.address]
        reason, _ = await failed(route_to(proxy, loops=listeners), origin.url("origin.test"))
        assert reason is Reason.LOOP
        assert proxy.requests == []
