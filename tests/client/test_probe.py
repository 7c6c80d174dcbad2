"""Probes through real proxies: what is dialled, what is asked, what is told when it fails."""

import asyncio
import contextlib
import errno
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from egress_policy.client.dial import ProbeHop, Refused, dial, require_peer
from egress_policy.client.probe import ProbeLimits, ProbeResult, probe
from egress_policy.errors import Reason
from egress_policy.model.decision import Pin, Refusal
from egress_policy.model.host import detect_ip_literal_family
from egress_policy.model.proxy import Proxy
from egress_policy.model.target_url import parse_target_url
from egress_policy.policy import attempts
from egress_policy.wire.hint import SILENT_TO_SOCKS, SILENT_TO_TLS
from tests.helpers.certs import authority
from tests.helpers.lab import V4, V6, dual_stack, tls_for
from tests.helpers.origin import Origin, TcpEcho, tls_context
from tests.helpers.proxies import Faults, HttpProxy, LabProxy, Socks5Proxy
from tests.helpers.server import LabServer, Stream

CREDENTIALS = ("alice", "s3cret")
SEEN = "198.51.100.9"
PATIENT, HASTY = ProbeLimits(60, 60, 60), ProbeLimits(0.3, 0.3, 60)


class EchoOrigin(Origin):
    """Says what it saw, as services for that do."""

    def describe(self, *args: Any, **more: Any) -> bytes:
        super().describe(*args, **more)
        return json.dumps({"ip": SEEN}).encode()


def trusting(_name: str) -> ssl.SSLContext:
    return authority().client_context(["http/1.1"])


def lab_proxy(type_: str, resolve: dict[str, tuple[str, int]], **fields: Any) -> LabProxy:
    if type_ == "socks5":
        return Socks5Proxy(resolve=resolve, **fields)
    tls = tls_for("proxy.test") if type_ == "https" else None
    return HttpProxy(resolve=resolve, tls=tls, **fields)


def hop_to(
    server: LabServer,
    type_: str = "http",
    addresses: tuple[str, ...] = (V4,),
    target: str = "",
    loop_back: Any = lambda _peer, _local: None,
    **fields: Any,
) -> ProbeHop:
    stated = {"name": "dc", "type": type_, "host": "proxy.test", "port": server.port, **fields}
    pin = Pin(addresses, detect_ip_literal_family(addresses[0]))
    host, _, port = target.rpartition(":")
    return ProbeHop(Proxy.model_validate(stated), pin, (host, int(port or 0)), loop_back)


async def probed(hop: ProbeHop, url: str, limits: ProbeLimits = PATIENT) -> ProbeResult:
    asked = parse_target_url(url)
    target = hop.target if hop.target[1] else (asked.host, asked.port)
    hop = ProbeHop(hop.proxy, hop.pin, target, hop.loop_back)
    return await probe(hop, asked, trusting, limits)


async def failed(hop: ProbeHop, url: str, limits: ProbeLimits = PATIENT) -> tuple[Reason, str]:
    result = await probed(hop, url, limits)
    assert result.refusal, result
    assert result.refusal.proxy == "dc"
    assert "s3cret" not in result.refusal.detail
    assert result.egress_ip is None
    return result.refusal.reason, result.refusal.detail


@contextlib.asynccontextmanager
async def scene(
    type_: str, tls: ssl.SSLContext | None = None, **fields: Any
) -> AsyncIterator[tuple[LabProxy, EchoOrigin]]:
    async with (
        EchoOrigin(tls=tls) as origin,
        lab_proxy(type_, {"origin.test": origin.address}, **fields) as proxy,
    ):
        yield proxy, origin


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
        hop = hop_to(proxy, type_, username=username, password=password)
        result = await probed(hop, origin.url("origin.test", "/ip?x=1"))
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
            hop_to(proxy, type_, plain_http=plain_http), origin.url("origin.test")
        )
        assert result.egress_ip == SEEN
        assert proxy.requests[0].line.split()[0] == verb


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
@pytest.mark.parametrize(("address", "family"), [(V4, 4), (V6, 6)])
async def test_dials_the_pinned_family_alone(type_: str, address: str, family: int) -> None:
    async with Origin() as origin:
        resolve = {"origin.test": origin.address}
        async with dual_stack(lab_proxy(type_, resolve)) as proxy:
            result = await probed(hop_to(proxy, type_, (address,)), origin.url("origin.test"))
            assert result.refusal is None
            assert (result.address, result.peer_family) == (address, f"ipv{family}")
            assert proxy.families == [family]


async def test_pinned_family_that_does_not_answer_is_not_left() -> None:
    async with scene("http") as (proxy, origin):
        reason, detail = await failed(hop_to(proxy, addresses=(V6,)), origin.url("origin.test"))
        assert reason is Reason.CONNECT_REFUSED
        assert detail == f"Proxy dc: cannot connect to ::1 port {proxy.port}: Connection refused"
        assert proxy.accepted == 0


async def test_addresses_are_dialled_in_order_until_one_accepts() -> None:
    async with scene("http") as (proxy, origin):
        result = await probed(hop_to(proxy, addresses=("127.0.0.2", V4)), origin.url("origin.test"))
        assert result.refusal is None
        assert result.address == V4
        assert proxy.accepted == 1


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
            hop = hop_to(origin, addresses=("127.0.0.3",), port=port)
            reason, detail = await failed(hop, origin.url(), HASTY)
    assert reason is Reason.CONNECT_TIMEOUT
    assert detail == f"Proxy dc: no answer from 127.0.0.3 port {port} within 0.3 s"


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("type_", ["http", "socks5"])
async def test_literal_of_the_target_is_what_the_proxy_is_asked_for(
    type_: str, secure: bool
) -> None:
    tls = tls_context() if secure else None
    async with EchoOrigin(tls=tls) as origin, lab_proxy(type_, {}) as proxy:
        hop = hop_to(proxy, type_, target=f"{V4}:{origin.port}", target_family="ipv4")
        result = await probed(hop, origin.url("origin.test"))
        assert result.egress_ip == SEEN
        assert proxy.targets == [f"{V4}:{origin.port}"]
        assert not proxy.requests[0].line.startswith("GET")


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
        hop = hop_to(origin, addresses=addresses)
        with pytest.raises(Refused, match="no answer from 192\\.0\\.2\\.60 port"):
            await dial(hop, 0.01, stagger=0.001)
        assert (tuple(dialled), most) == (addresses, attempts.AT_ONCE)
        dialled.clear()
        with pytest.raises(Refused, match="no answer"):
            await dial(hop, 0.1, overall=0.15, stagger=0.001)
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
        hop, url = hop_to(origin, addresses=("127.0.0.2", V4)), origin.url()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", no_socket)
            reason, detail = await failed(hop, url)
    assert (asked, reason) == (1, Reason.ERROR)
    assert "ulimit -n" in detail


# -- what fails


@pytest.mark.parametrize("moment", ["accept", "handshake"])
@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_proxy_that_says_nothing_is_given_up(type_: str, moment: Any) -> None:
    tls = tls_context()
    async with scene(type_, tls, faults=Faults(stall=moment)) as (proxy, origin):
        found = await failed(hop_to(proxy, type_), origin.url("origin.test"), HASTY)
        text = "Proxy dc: no end of the handshake in 0.3 s"
        text += {"socks5": SILENT_TO_SOCKS, "https": SILENT_TO_TLS * (moment == "accept")}.get(
            type_, ""
        )
        assert found == (Reason.HANDSHAKE_FAILED, text)
        assert origin.accepted == 0


@pytest.mark.parametrize(
    "faults",
    [Faults(reset="accept"), Faults(reset="handshake"), Faults(garbage=b"SSH-2.0-x\r\n")],
    ids=["reset at once", "reset in the handshake", "garbage"],
)
@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_proxy_that_breaks_the_handshake_fails(type_: str, faults: Faults) -> None:
    async with scene(type_, tls_context(), faults=faults) as (proxy, origin):
        reason, _ = await failed(hop_to(proxy, type_), origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert origin.accepted == 0


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
            hop_to(proxy, plain_http=plain_http), origin.url("origin.test")
        )
        assert found is reason
        assert str(status) in detail


@pytest.mark.parametrize("code", range(1, 9))
async def test_reply_of_the_proxy_is_told(code: int) -> None:
    async with scene("socks5") as (proxy, origin):
        assert isinstance(proxy, Socks5Proxy)
        proxy.reply = code
        reason, detail = await failed(hop_to(proxy, "socks5"), origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "the SOCKS5 proxy answered: " in detail


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_wrong_password_is_told(type_: str) -> None:
    tls = tls_context()
    async with scene(type_, tls, credentials=("alice", "another")) as (proxy, origin):
        hop = hop_to(proxy, type_, username="alice", password="s3cret")
        reason, _ = await failed(hop, origin.url("origin.test"))
        assert reason is Reason.PROXY_AUTH


async def test_certificate_of_an_https_proxy_is_checked_for_its_name() -> None:
    async with scene("https") as (proxy, origin):
        hop = hop_to(proxy, "https", host="impostor.test", username="u", password="s3cret")
        reason, detail = await failed(hop, origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "TLS with the proxy failed: Hostname mismatch" in detail
        assert proxy.requests == []


async def test_certificate_of_the_target_is_checked_for_its_name() -> None:
    async with (
        EchoOrigin(tls=tls_context()) as origin,
        lab_proxy("socks5", {"impostor.test": origin.address}) as proxy,
    ):
        reason, detail = await failed(hop_to(proxy, "socks5"), origin.url("impostor.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "TLS with the target failed: Hostname mismatch" in detail
        assert origin.requests == []


async def test_without_settings_for_tls_nothing_is_sent() -> None:
    async with scene("https") as (proxy, origin):
        hop, url = hop_to(proxy, "https"), parse_target_url(origin.url("origin.test"))
        result = await probe(hop, url, None, PATIENT)
        assert result.refusal
        assert result.refusal.reason is Reason.ERROR
        assert proxy.requests == []


async def test_target_that_does_not_answer_ends_the_test() -> None:
    async with scene("socks5") as (proxy, origin):
        hop, url = hop_to(proxy, "socks5"), origin.url("origin.test", "/hold")
        found = await failed(hop, url, ProbeLimits(60, 60, 0.5))
        text = "Proxy dc: no answer came through it within 0.5 s"
        assert found == (Reason.HANDSHAKE_FAILED, text)


def test_a_test_has_the_limits_of_a_flow() -> None:
    limits = ProbeLimits()
    assert (limits.address, limits.connect, limits.handshake) == (
        attempts.ADDRESS_TIMEOUT,
        attempts.CONNECT_TIMEOUT,
        attempts.HANDSHAKE_TIMEOUT,
    )


class Slow(Socks5Proxy):
    """Takes its time for the handshake."""

    async def dial(self, host: str, port: int) -> Stream:
        await asyncio.sleep(0.4)
        return await super().dial(host, port)


async def test_a_slow_handshake_takes_nothing_from_the_limits_of_other_steps() -> None:
    async with EchoOrigin() as origin, Slow(resolve={"origin.test": origin.address}) as proxy:
        limits = ProbeLimits(0.3, 60, 60, 0.3)
        result = await probed(hop_to(proxy, "socks5"), origin.url("origin.test"), limits)
    assert result.refusal is None
    assert (result.handshake_ms or 0) > 300


async def test_answer_that_is_no_http_fails() -> None:
    async with TcpEcho() as echo, lab_proxy("socks5", {"echo.test": echo.address}) as proxy:
        reason, detail = await failed(hop_to(proxy, "socks5"), f"http://echo.test:{echo.port}/")
        assert reason is Reason.HANDSHAKE_FAILED
        assert "no answer of HTTP came through it" in detail


class Curt(LabServer):
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")


async def test_target_that_closes_unanswered_fails() -> None:
    async with Curt() as curt, lab_proxy("socks5", {"curt.test": curt.address}) as proxy:
        reason, detail = await failed(hop_to(proxy, "socks5"), f"http://curt.test:{curt.port}/")
        assert reason is Reason.HANDSHAKE_FAILED
        assert "without an answer" in detail


async def test_bytes_of_the_proxy_before_tls_of_the_target_are_no_answer() -> None:
    behind = b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"ip":"::1"}\n'
    async with scene("socks5", tls_context(), faults=Faults(behind=behind)) as (proxy, origin):
        reason, detail = await failed(hop_to(proxy, "socks5"), origin.url("origin.test"))
        assert reason is Reason.HANDSHAKE_FAILED
        assert "TLS with the target failed" in detail


@pytest.mark.parametrize("status", [204, 301, 404, 500])
async def test_any_answer_through_a_tunnel_is_one(status: int) -> None:
    async with scene("socks5") as (proxy, origin):
        url = origin.url("origin.test", f"/status/{status}")
        result = await probed(hop_to(proxy, "socks5"), url)
        assert (result.status, result.refusal) == (status, None)


async def test_body_is_read_no_further_than_it_may_say_an_address() -> None:
    async with scene("socks5") as (proxy, origin):
        url = origin.url("origin.test", "/stream?chunks=10000&size=10000")
        result = await probed(hop_to(proxy, "socks5"), url)
        assert (result.status, result.egress_ip, result.refusal) == (200, None, None)


# -- the peer


async def test_connection_that_loops_back_is_not_spoken_to() -> None:
    async with scene("http") as (proxy, origin):
        found = Refusal(Reason.LOOP, "a listener", "dc")
        hop = hop_to(proxy, loop_back=lambda peer, _: found if peer[1] == proxy.port else None)
        reason, _ = await failed(hop, origin.url("origin.test"))
        assert reason is Reason.LOOP
        assert proxy.requests == []


@pytest.mark.parametrize(
    ("minted", "peer", "right"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
    ],
)
async def test_peer_is_the_pinned_address(minted: str, peer: str, right: bool) -> None:
    hop = ProbeHop(Proxy(name="dc", host="proxy.test"), Pin((minted,), 4), ("origin.test", 80))
    if right:
        require_peer(hop, minted, (peer, 1), "192.0.2.9")
        return
    with pytest.raises(Refused) as caught:
        require_peer(hop, minted, (peer, 1), "192.0.2.9")
    assert caught.value.refusal.reason is Reason.PEER_MISMATCH


async def test_without_addresses_nothing_is_dialled() -> None:
    hop = ProbeHop(Proxy(name="dc", host="proxy.test"), Pin((), 4), ("origin.test", 80))
    with pytest.raises(Refused, match="no address"):
        await dial(hop, 1)


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
        hop = hop_to(proxy, addresses=("127.0.0.3", "127.0.0.4", V4))  # the second one refuses
        result = await probed(hop, origin.url("origin.test"))
        assert (result.refusal, result.address) == (None, V4)
        assert [sock.fileno() for sock in held] == [-1]


async def test_of_two_that_answer_one_is_used_and_the_other_closed() -> None:
    async with scene("http") as (proxy, _):
        with await dial(hop_to(proxy, addresses=(V4, V4)), 1, stagger=0):
            pass
        await proxy.until(lambda: not proxy.open)
