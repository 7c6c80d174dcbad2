"""Greetings of real proxies: nothing of a target leaves, and failures are judged as for flows."""

import asyncio
import errno
import socket
import ssl
from typing import Any

import pytest

from egress_policy.client.greeting import greeting
from egress_policy.client.own_machine import is_own_host
from egress_policy.errors import Reason
from egress_policy.model.decision import Route
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import Cause
from egress_policy.policy.hop import Outcome
from egress_policy.policy.listeners import Listeners
from egress_policy.wire.hint import SILENT_TO_SOCKS, SILENT_TO_TLS
from tests.client.scene import CREDENTIALS, HASTY, PATIENT, lab_proxy, route_to, trusting
from tests.helpers.clock import Clock
from tests.helpers.lab import V4, V6, dual_stack
from tests.helpers.proxies import Faults
from tests.helpers.routes import route_by
from tests.helpers.slamming import slamming

TYPES = ["http", "https", "socks5"]


async def greet(route: Route, **more: Any) -> Outcome:
    return await greeting(route, trusting, **{"limits": PATIENT, **more})


async def failed(route: Route, **more: Any) -> tuple[Reason, Cause, str]:
    outcome = await greet(route, **more)
    assert outcome.failure, outcome
    assert outcome.hop is None
    assert "s3cret" not in outcome.failure.what
    return outcome.failure.reason, outcome.failure.cause, outcome.failure.what


@pytest.mark.parametrize("trickle", [False, True])
@pytest.mark.parametrize("credentials", [None, CREDENTIALS])
@pytest.mark.parametrize("type_", TYPES)
async def test_goes_as_far_as_the_greeting_and_no_further(
    type_: str, credentials: Any, trickle: bool
) -> None:
    async with lab_proxy(
        type_, {}, credentials=credentials, faults=Faults(trickle=trickle)
    ) as proxy:
        username, password = credentials or ("", "")
        outcome = await greet(route_to(proxy, type_, username=username, password=password))
        await proxy.until(lambda: not proxy.open)
    assert (outcome.step, outcome.address, outcome.failure) == ("attempt", V4, None)
    assert outcome.hop == outcome.ended - outcome.began
    said = b"\x05\x01\x02\x01\x05alice\x06s3cret" if credentials else b"\x05\x01\x00"
    assert proxy.received == (said if type_ == "socks5" else b"")
    assert proxy.accepted == 1


async def test_times_are_by_the_clock() -> None:
    class Ticking(Clock):
        def __call__(self) -> float:
            self.now += 0.25
            return self.now

    async with lab_proxy("http", {}) as proxy:
        outcome = await greet(route_to(proxy), clock=Ticking(50.0))
    assert (outcome.began, outcome.ended, outcome.hop) == (50.25, 50.5, 0.25)


@pytest.mark.parametrize(("address", "family"), [(V4, 4), (V6, 6)])
async def test_dials_the_pinned_family_alone(address: str, family: int) -> None:
    async with dual_stack(lab_proxy("socks5", {})) as proxy:
        outcome = await greet(route_to(proxy, "socks5", (address,)))
        assert (outcome.failure, outcome.address) == (None, address)
        assert proxy.families == [family]


async def test_proxy_that_is_gone_is_told_with_its_address() -> None:
    async with lab_proxy("http", {}) as proxy:
        route = route_to(proxy, addresses=("127.0.0.2",))
        outcome = await greet(route)
        assert outcome.failure
        assert (outcome.failure.reason, outcome.failure.cause) == (
            Reason.CONNECT_REFUSED,
            Cause.REFUSED,
        )
        assert outcome.address == "127.0.0.2"


@pytest.mark.parametrize("type_", ["https", "socks5"])
async def test_proxy_that_says_nothing_is_given_up(type_: str) -> None:
    hint = {"socks5": SILENT_TO_SOCKS, "https": SILENT_TO_TLS}[type_]
    async with lab_proxy(type_, {}, faults=Faults(stall="accept")) as proxy:
        found = await failed(route_to(proxy, type_), limits=HASTY)
    what = f"no end of the handshake in 0.3 s{hint}"
    assert found == (Reason.HANDSHAKE_FAILED, Cause.SILENT, what)


@pytest.mark.parametrize(
    "faults",
    [Faults(reset="handshake"), Faults(garbage=b"SSH-2.0-x\r\n")],
    ids=["reset", "garbage"],
)
async def test_proxy_that_breaks_the_greeting_fails(faults: Faults) -> None:
    async with lab_proxy("socks5", {}, faults=faults) as proxy:
        reason, cause, _ = await failed(route_to(proxy, "socks5"))
    assert (reason, cause) == (Reason.HANDSHAKE_FAILED, Cause.BROKEN)


@pytest.mark.parametrize("asked", [("alice", "another"), ("", "")])
async def test_credentials_that_the_proxy_refuses_are_told(asked: Any) -> None:
    async with lab_proxy("socks5", {}, credentials=CREDENTIALS) as proxy:
        route = route_to(proxy, "socks5", username=asked[0], password=asked[1])
        reason, cause, _ = await failed(route)
    assert (reason, cause) == (Reason.PROXY_AUTH, Cause.CREDENTIALS)


async def test_certificate_of_an_https_proxy_is_checked_for_its_name() -> None:
    async with lab_proxy("https", {}) as proxy:
        reason, cause, what = await failed(route_to(proxy, "https", host="impostor.test"))
    assert (reason, cause) == (Reason.HANDSHAKE_FAILED, Cause.BROKEN)
    assert "TLS with the proxy failed: Hostname mismatch" in what


async def test_a_wrong_peer_is_not_greeted_and_nobody_is_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    connects = loop.sock_connect

    async def sock_connect(sock: Any, address: Any) -> None:
        await connects(sock, (V4, address[1]))  # as where something rewrites connections

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    async with lab_proxy("socks5", {}) as proxy:
        reason, cause, _ = await failed(route_to(proxy, "socks5", ("127.0.0.2",)))
        await proxy.until(lambda: not proxy.open)
    assert (reason, cause) == (Reason.PEER_MISMATCH, Cause.NOBODY)
    assert proxy.received == b""


async def test_a_connection_that_loops_back_is_not_greeted() -> None:
    async with lab_proxy("socks5", {}) as proxy:
        listeners = Listeners(is_own_host)
        listeners.of_proxy = lambda: [proxy.address]
        reason, cause, _ = await failed(route_to(proxy, "socks5", loops=listeners))
        await proxy.until(lambda: not proxy.open)
    assert (reason, cause) == (Reason.LOOP, Cause.NOBODY)
    assert proxy.received == b""


@pytest.mark.parametrize("late", [False, True])
async def test_a_proxy_that_resets_at_once_is_to_blame(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the reset arrives after the dial has looked at its peer."""
    looks, looked = socket.socket.getpeername, list[None]()

    def getpeername(self: socket.socket) -> Any:
        if late and not looked:
            looked.append(None)
            return (V4, port)
        return looks(self)

    monkeypatch.setattr(socket.socket, "getpeername", getpeername)
    with slamming(monkeypatch) as port:
        reason, cause, what = await failed(route_by(Proxy(name="dc", host=V4, port=port)))
    assert (reason, cause) == (Reason.CONNECT_REFUSED, Cause.REFUSED)
    assert what == f"cannot connect to {V4} port {port}: Connection reset by peer"


async def test_settings_that_cannot_be_had_are_no_fault_of_the_proxy() -> None:
    def settings(_name: str) -> ssl.SSLContext:
        raise FileNotFoundError(errno.ENOENT, "SECRET")

    async with lab_proxy("https", {}) as proxy:
        outcome = await greeting(route_to(proxy, "https"), settings, PATIENT)
    assert outcome.failure
    assert (outcome.failure.reason, outcome.failure.cause) == (Reason.ERROR, Cause.OWN)
    assert outcome.failure.what == "TLS with the proxy failed: No such file or directory"
