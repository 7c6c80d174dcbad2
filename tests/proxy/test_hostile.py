"""Edits, closures and nonsense at the worst moment: nothing leaks, hangs or is kept.

Every wait in these tests is for an event that the test itself causes.
"""

import asyncio
import base64
import contextlib
import re
import socket
import threading
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import pytest
from mitmproxy import connection, http
from mitmproxy.connection import Address
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from egress_policy.errors import Reason
from tests.helpers.certs import authority
from tests.helpers.client_paths import WAYS, attempt, strategy_of, target_of
from tests.helpers.clients import connect, http_get, session, socks5, wire
from tests.helpers.lab import V4, egress_metadata, refusal_in
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Origin, tls_context
from tests.helpers.proxies import Faults, HttpProxy, LabProxy, entry, make
from tests.helpers.scene import egress, reload_policy, write_policy
from tests.helpers.server import LabServer, reset

pytestmark = pytest.mark.timeout(30)

types = pytest.mark.parametrize("type_", ["http", "socks5"])
V4_TWIN = "127.0.0.2"
MORE = 7
"""More than the five connections to one address that mitmproxy opens at a time for a client."""


async def reload(folder: Path, **policy: Any) -> None:
    write_policy(folder / "policy.yaml", **policy)
    await reload_policy()


def kept(mitm: Mitm) -> tuple[int, int]:
    """How many connections and timers the guard remembers."""
    guard = mitm.master.addons.get("egressguard")
    return len(guard._live), len(guard._timers)


class Announcements:
    """Lists what is about to be dialled; ``all`` is set once the expected number is reached."""

    def __init__(self, expected: int) -> None:
        self.addresses: list[Address | None] = []
        self.all = asyncio.Event()
        self._expected = expected

    def server_connect(self, data: ServerConnectionHookData) -> None:
        self.addresses.append(data.server.address)
        if len(self.addresses) == self._expected:
            self.all.set()


def http2_requests(count: int, authority: str, path: str) -> bytes:
    """This many concurrent GET requests, with the connection's preface."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
    for _ in range(count):
        client.send_headers(client.get_next_available_stream_id(), fields, end_stream=True)
    return client.data_to_send()


# --- policy edits and closures between a decision and what comes of it


class ClosesTheTaken:
    """Ends the connection for the request before it can be used."""

    def __init__(self, mitm: Mitm, proxy: LabProxy) -> None:
        self._mitm = mitm
        self._proxy = proxy

    async def request(self, flow: http.HTTPFlow) -> None:
        self._proxy.drop_connections()
        await self._mitm.wait_for_log("server disconnect")


async def test_a_request_whose_connection_closes_before_it_is_decided_keeps_its_exit(
    tmp_path: Path,
) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin, HttpProxy() as proxy:
        exits = [entry("http", proxy)]
        async with egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm:
            mitm.master.addons.add(ClosesTheTaken(mitm, proxy))
            async with session(mitm.port, origin.url(), mitm.ca_cert) as client:
                # A new connection that is decided without the request would go direct.
                rules = [{"filter": "~m GET", "use": "exit"}]
                await reload(tmp_path, proxies=exits, rules=rules, default="direct")
                assert (await client.get()).status == 200
            (flow,) = await mitm.wait_for_flows(1)
            assert egress_metadata(flow)["proxy"] == "exit"
        assert proxy.accepted == origin.accepted == len(proxy.targets) == 2


@pytest.mark.parametrize("way", ["upstream", "ignored"])
async def test_a_connect_answered_before_an_edit_is_decided_by_the_policy_after_it(
    way: str, tmp_path: Path
) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin, HttpProxy() as upstream:
        ignored = {"connection_strategy": "lazy", "ignore_hosts": [V4]}
        options: dict[str, Any] = (
            ignored if way == "ignored" else {"mode": [f"upstream:http://{upstream.authority}"]}
        )
        async with (
            egress(tmp_path, rules=[{"use": "direct"}], **options) as mitm,
            connect(mitm.port, *origin.address) as client,
        ):
            await reload(tmp_path, rules=[{"use": "refuse"}])
            if way == "ignored":
                with pytest.raises((OSError, EOFError)):
                    await client.start_tls(authority().ca_path, V4)
            else:
                await client.start_tls(mitm.ca_cert, V4)
                refusal_in(await client.request("GET", "/", origin.authority))
        assert (origin.accepted, upstream.accepted) == (0, 0)


async def test_an_ignored_connect_that_an_addon_sends_elsewhere_is_decided_for_there(
    tmp_path: Path,
) -> None:
    class Rewrites:
        def http_connect(self, flow: http.HTTPFlow) -> None:
            flow.request.host = V4_TWIN

    rules = [{"hosts": [V4_TWIN], "use": "refuse"}]
    options: dict[str, Any] = {"connection_strategy": "lazy", "ignore_hosts": ["127"]}
    async with Origin(host=V4_TWIN) as origin:
        async with egress(tmp_path, rules=rules, **options) as mitm:
            mitm.master.addons.add(Rewrites())  # after the addon has answered the hook
            async with connect(mitm.port, V4, origin.port) as client:
                await client.send(b"GET / HTTP/1.1\r\nhost: o\r\n\r\n")
                assert await client.closed() == b""
        assert origin.accepted == 0


async def test_a_rule_added_during_a_dns_query_applies_to_the_waiting_flow(tmp_path: Path) -> None:
    gate = asyncio.Event()
    pinned = {"use": "direct", "family": "ipv4"}
    there = {("origin.test", "A"): Reply([V4], gate=gate)}
    async with Origin() as origin, Nameserver(there) as nameserver:
        async with egress(tmp_path, rules=[pinned], dns=nameserver.port) as mitm:
            waiting = asyncio.create_task(http_get(mitm.port, origin.url("origin.test")))
            await nameserver.arrived.wait()
            # The egress itself is still listed, so that it alone would pass as current.
            await reload(tmp_path, rules=[{"hosts": ["origin.test"], "use": "refuse"}, pinned])
            gate.set()
            assert refusal_in(await waiting)["reason"] == Reason.RULE
        assert origin.accepted == 0


async def test_an_exit_removed_while_its_connection_is_announced_is_not_used(
    tmp_path: Path,
) -> None:
    class Announced:
        def __init__(self) -> None:
            self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        async def server_connected(self, data: ServerConnectionHookData) -> None:
            self.begun.set()
            await self.go_on.wait()

    async with Origin() as origin, HttpProxy() as proxy:
        exits = [entry("http", proxy)]
        async with egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm:
            mitm.master.addons.add(announced := Announced())
            waiting = asyncio.create_task(http_get(mitm.port, origin.url()))
            await announced.begun.wait()
            await reload(tmp_path, rules=[{"use": "direct"}])
            announced.go_on.set()
            assert (await waiting).status == 200
        assert (origin.accepted, proxy.requests) == (1, [])


# --- more at a time than mitmproxy connects to one address


@types
async def test_a_client_reaches_many_origins_through_one_exit(type_: str, tmp_path: Path) -> None:
    names = [f"origin{number}.test" for number in range(MORE)]
    async with Origin() as origin:
        async with make(type_, resolve=dict.fromkeys(names, origin.address)) as proxy:
            exits = [entry(type_, proxy)]
            async with (
                egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm,
                wire(mitm.port) as client,
            ):
                answers = [await client.request("GET", origin.url(name), name) for name in names]
        assert [answer.status for answer in answers] == [200] * MORE


async def test_a_client_turns_over_many_accounts_at_one_gateway(tmp_path: Path) -> None:
    async with Origin() as origin, HttpProxy(resolve={"origin.test": origin.address}) as gateway:
        names = [f"account{number}" for number in range(MORE)]
        exits = [
            entry("http", gateway) | {"name": name, "username": name, "password": "secret"}
            for name in names
        ]
        pool = {"name": "gateway", "members": names, "strategy": "round-robin"}
        async with (
            egress(tmp_path, proxies=exits, pools=[pool], rules=[{"use": "gateway"}]) as mitm,
            wire(mitm.port) as client,
        ):
            target = origin.url("origin.test"), "origin.test"
            answers = [await client.request("GET", *target) for _ in names * 2]
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert {(name, "secret") for name in names} == {one.credentials for one in gateway.requests}


async def test_what_waits_for_its_turn_ends_with_its_client(tmp_path: Path) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin, HttpProxy() as proxy:
        exits = [entry("http", proxy)]
        options: dict[str, Any] = {"proxies": exits, "rules": [{"use": "exit"}]}
        async with egress(tmp_path, **options, connection_strategy="lazy") as mitm:
            mitm.master.addons.add(announced := Announcements(MORE))
            async with connect(mitm.port, *origin.address) as client:
                await client.start_tls(mitm.ca_cert, V4, ["h2"])
                await client.send(http2_requests(MORE, origin.authority, "/hold"))
                await announced.all.wait()
                await origin.until(lambda: len(origin.requests) == 5)
            await mitm.until(lambda: not mitm.clients)
            assert kept(mitm) == (0, 0)
            # mitmproxy, with and without addons, leaves it to the peer to end several at a time.
            for writer in proxy._live.values():
                reset(writer)
        assert proxy.accepted == len(origin.requests) == 5


# --- clients that go


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """Connections to this address are neither accepted nor refused."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind((host, port))
        sock.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex((host, port))
        yield


@pytest.mark.parametrize("line", ["GET http://origin.test/", "CONNECT origin.test:443"])
async def test_the_next_address_is_not_dialled_for_a_client_that_has_gone(
    line: str, tmp_path: Path
) -> None:
    there = {("proxy.test", "A"): [V4_TWIN, V4]}
    async with Origin() as origin, HttpProxy() as proxy, Nameserver(there) as nameserver:
        exit_ = entry("http", proxy, family="ipv4") | {"host": "proxy.test"}
        rules: list[dict[str, Any]] = [{"hosts": [V4], "use": "direct"}, {"use": "exit"}]
        with silent(V4_TWIN, proxy.port):
            async with egress(tmp_path, proxies=[exit_], rules=rules, dns=nameserver.port) as mitm:
                mitm.master.addons.add(announced := Announcements(1))
                async with wire(mitm.port) as client:
                    await client.send(f"{line} HTTP/1.1\r\nhost: o\r\n\r\n".encode())
                    await announced.all.wait()
                await mitm.until(lambda: not mitm.clients)
                # Whatever was still to be dialled is dialled before this one.
                assert (await http_get(mitm.port, origin.url())).status == 200
                assert announced.addresses == [(V4_TWIN, proxy.port), origin.address]
        assert proxy.accepted == 0
        assert "egress refused" not in mitm.text


@pytest.mark.parametrize("line", ["GET http://origin.test/", "CONNECT origin.test:443"])
async def test_a_client_that_leaves_during_the_look_up_is_refused_nothing(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, released = threading.Event(), threading.Event()
    ask_system = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if host != "proxy.test":
            return ask_system(host, *rest, **more)
        asked.set()
        released.wait()
        return ask_system(V4, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with HttpProxy() as proxy:
        exits = [entry("http", proxy) | {"host": "proxy.test"}]
        async with egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm:
            async with wire(mitm.port) as client:
                await client.send(f"{line} HTTP/1.1\r\nhost: o\r\n\r\n".encode())
                assert await asyncio.to_thread(asked.wait, 10)
            await mitm.until(lambda: not mitm.clients)
            released.set()
            await mitm.until(lambda: mitm.flows or mitm.connects)
            flow = (mitm.flows or mitm.connects)[0]
            assert isinstance(flow, http.HTTPFlow)
        assert proxy.accepted == 0
    assert "reason" not in egress_metadata(flow)
    assert "egress refused" not in mitm.text
    assert flow.response is None or flow.response.status_code == 502  # as without the addon


@types
@pytest.mark.parametrize("line", ["GET http://origin.test/", "CONNECT origin.test:443"])
async def test_a_client_that_leaves_during_the_handshake_is_refused_nothing(
    line: str, type_: str, tmp_path: Path
) -> None:
    proxy = make(type_, faults=Faults(stall="handshake"))
    async with proxy, Origin() as origin:
        rules: list[dict[str, Any]] = [{"hosts": [V4], "use": "direct"}, {"use": "exit"}]
        tunnel = {} if type_ == "socks5" else {"plain_http": "connect"}
        async with egress(tmp_path, proxies=[entry(type_, proxy, **tunnel)], rules=rules) as mitm:
            async with wire(mitm.port) as client:
                await client.send(f"{line} HTTP/1.1\r\nhost: o\r\n\r\n".encode())
                await proxy.until(lambda: proxy.accepted)
            await mitm.until(lambda: not mitm.clients)
            assert (await http_get(mitm.port, origin.url())).status == 200
    assert "egress refused" not in mitm.text


@types
@pytest.mark.parametrize("ends", ["cut", "closed"])
async def test_a_tunnel_that_ends_before_the_client_starts_tls_is_made_anew(
    ends: str, type_: str, tmp_path: Path
) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin, make(type_) as proxy:
        rules = [{"use": "exit"}]
        async with egress(tmp_path, proxies=[entry(type_, proxy)], rules=rules) as mitm:
            async with connect(mitm.port, *origin.address) as tunnel:
                await proxy.until(lambda: proxy.tunnels)
                (hop,) = mitm.master.addons.get("egressguard")._live
                if ends == "cut":
                    edited = [entry(type_, proxy, family="ipv4")]
                    await reload(tmp_path, proxies=edited, rules=rules)
                else:
                    proxy.drop_connections()
                while hop.state & connection.ConnectionState.CAN_READ:
                    await asyncio.sleep(0.01)  # nothing tells that a half is closed
                async with asyncio.timeout(10):
                    await tunnel.start_tls(mitm.ca_cert, "127.0.0.1")
                    answer = await tunnel.request("GET", "/", origin.authority)
            assert answer.status == 200
    assert proxy.accepted == 2


# --- what clients and proxies say


def reset_once_connected(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    """Let a client of ``listener`` find its peer gone: the listener closes with a backlog."""
    connect_ = BaseSelectorEventLoop.sock_connect

    async def then_lose(loop: BaseSelectorEventLoop, sock: socket.socket, address: Any) -> None:
        ours = address == listener.getsockname()
        await connect_(loop, sock, address)
        if ours:
            listener.close()
            with contextlib.suppress(OSError):
                while sock.getpeername():
                    await asyncio.sleep(0)

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", then_lose)


@pytest.mark.parametrize("way", WAYS)
async def test_a_peer_that_resets_what_it_has_just_accepted_is_a_peer_that_refuses(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((V4, 0)) as listener:
        reset_once_connected(monkeypatch, listener)
        port = listener.getsockname()[1]
        exits = [{"name": "exit", "host": V4, "port": port}]
        async with (
            target_of(way) as origin,
            egress(
                tmp_path,
                proxies=exits,
                rules=[{"use": "exit"}],
                connection_strategy=strategy_of(way),
            ) as mitm,
        ):
            # A CONNECT that is answered before it is dialled for can only be closed.
            refused = 0 if way == "tcp lazy" else 503
            assert await attempt(mitm, way, origin) == refused
            assert f"connection to {V4}:{port} broke: " in mitm.text
            assert origin.accepted == 0


async def test_hosts_that_cannot_be_looked_up_are_refused_at_once(tmp_path: Path) -> None:
    nonsense = ["a..b", f"{'x' * 64}.test", f"{V4}\0.ok.test", "caf\xe9", ""]
    spellings = [V4, f"::ffff:{V4}", "127.1", "0x7f.1", "2130706433"]
    codes = {}
    async with Origin() as origin:
        rules = [{"hosts": [V4], "use": "refuse"}]
        async with egress(tmp_path, mode=["socks5"], rules=rules) as mitm:
            for host in nonsense + spellings:
                codes[host] = await socks5_answer(mitm.port, host, origin.port)
            assert kept(mitm) == (0, 0)
        assert codes == dict.fromkeys(nonsense + spellings, 4)  # host unreachable, RFC 1928
        assert origin.accepted == 0


@types
@pytest.mark.parametrize("host", ["secret.test/?", "x@secret.test", "a/ HTTP/1.1\r\n\r\nGET /"])
async def test_a_host_that_would_read_as_another_is_not_asked_of_a_proxy(
    host: str, type_: str, tmp_path: Path
) -> None:
    async with make(type_) as proxy:
        async with (
            egress(
                tmp_path,
                proxies=[entry(type_, proxy)],
                rules=[{"hosts": ["secret.test"], "use": "refuse"}, {"use": "exit"}],
                mode=["socks5"],
                connection_strategy="lazy",
            ) as mitm,
            socks5(mitm.port, host, 80) as client,
        ):
            refusal = refusal_in(await client.request("GET", "/", "a.test"))
            assert refusal["reason"] == Reason.DNS_FAILURE
        assert proxy.accepted == 0


async def socks5_answer(port: int, name: str, target_port: int) -> int:
    """The reply to a SOCKS5 CONNECT to a name of any bytes."""
    async with wire(port) as client:
        await client.send(b"\5\1\0")
        assert await client.receive(2) == b"\5\0"
        encoded = name.encode("latin-1")
        await client.send(b"\5\1\0\3" + bytes((len(encoded),)) + encoded + target_port.to_bytes(2))
        async with asyncio.timeout(5):
            return (await client.receive(2))[1]


class Echoes(LabServer):
    """A proxy that refuses CONNECT and repeats the credentials, decoded and as they came."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = re.search(rb"Basic (\S+)", await reader.readuntil(b"\r\n\r\n"))
        assert found
        reason = base64.b64decode(found[1]) + b" " + found[1]
        writer.write(b"HTTP/1.1 403 " + reason + b"\r\n\r\n")
        await writer.drain()
        await reader.read()


async def test_a_proxy_that_repeats_its_credentials_does_not_get_them_told(tmp_path: Path) -> None:
    async with Echoes() as proxy:
        exit_ = entry("http", proxy, username="alice", password="s3cret", plain_http="connect")
        async with egress(tmp_path, proxies=[exit_], rules=[{"use": "exit"}]) as mitm:
            for url in ("http://origin.test/", "https://origin.test/"):
                answer = await http_get(mitm.port, url, ca=mitm.ca_cert)
                assert "403" in refusal_in(answer)["detail"]
                told = answer.body.decode() + str(answer.headers) + mitm.text
                assert "s3cret" not in told
                assert base64.b64encode(b"alice:s3cret").decode() not in told


async def test_a_refused_head_has_no_body(tmp_path: Path) -> None:
    async with egress(tmp_path, default="refuse") as mitm, wire(mitm.port) as client:
        for method, more in (("HEAD", ""), ("GET", "connection: close\r\n")):
            line = f"{method} http://origin.test/ HTTP/1.1\r\n"
            await client.send(f"{line}host: origin.test\r\n{more}\r\n".encode())
        head, behind = (await client.closed()).split(b"\r\n\r\n", 1)
    assert re.search(rb"content-length: [1-9]", head)
    assert behind.startswith(b"HTTP/1.1 503 ")
