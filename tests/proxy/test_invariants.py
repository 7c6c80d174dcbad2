"""Guarantees that hold whatever happens: other addons, exceptions, edits of flows and policy."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import connection, ctx, http
from mitmproxy.proxy import commands, context, events, layer, server
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server_hooks import ClientConnectedHook, ServerConnectionHookData

from egress_policy.dns import resolver
from egress_policy.dns.stub import Stub
from egress_policy.errors import Reason
from egress_policy.proxy import seams
from egress_policy.proxy.addons import select
from egress_policy.proxy.addons.guard import EgressGuard
from egress_policy.proxy.addons.named import find
from egress_policy.router import EgressRouter
from tests.helpers.certs import authority
from tests.helpers.client_paths import WAYS, attempt, origin_for, strategy_of, target_of
from tests.helpers.clients import http_get, wire
from tests.helpers.lab import V4, tls_for, zone
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.proxies import HttpProxy, entry, make
from tests.helpers.scene import egress

ALL = [{"use": "exit"}]
ways = pytest.mark.parametrize("way", WAYS)


def join(mitm: Mitm, addon: object, *, first: bool = False) -> None:
    """Add an addon at the end of the chain, or before all others."""
    chain = mitm.master.addons
    chain.add(addon)
    if first:
        chain.chain.insert(0, chain.chain.pop())


# --- I1: what the policy did not mint is not dialled


@ways
async def test_nothing_is_dialled_once_the_addons_are_gone(way: str, tmp_path: Path) -> None:
    """A script that breaks or is deleted is unloaded; the guard stays."""
    async with (
        target_of(way) as origin,
        make("http") as proxy,
        egress(
            tmp_path,
            proxies=[entry("http", proxy)],
            rules=ALL,
            connection_strategy=strategy_of(way),
        ) as mitm,
    ):
        manager = mitm.master.addons
        for addon in [a for a in manager.chain if type(a).__module__.startswith("egress_")]:
            # Some take others along.
            if addon in manager.chain and not isinstance(addon, EgressGuard):
                manager.remove(addon)
        # Nobody is there to make a 503 of mitmproxy's own answer to CONNECT.
        assert await attempt(mitm, way, origin) in (0, 502, 503)
    assert (origin.accepted, proxy.accepted) == (0, 0)


class RemovesTheGuard:
    def request(self, flow: http.HTTPFlow) -> None:
        if guard := find(EgressGuard):
            ctx.master.addons.remove(guard)


@ways
async def test_a_guard_that_another_addon_removes_stands_again(way: str, tmp_path: Path) -> None:
    async with (
        Origin() as plain,
        target_of(way) as origin,
        egress(
            tmp_path,
            rules=[{"ports": [plain.port], "use": "direct"}, {"use": "refuse"}],
            connection_strategy=strategy_of(way),
        ) as mitm,
    ):
        join(mitm, RemovesTheGuard())
        assert (await http_get(mitm.port, plain.url())).status == 200
        assert await attempt(mitm, way, origin) in (0, 503)
        assert origin.accepted == 0


class OpensItsOwn:
    """Puts its own layer behind the client, which opens a connection that it made itself."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.outcome: list[str | None] = []

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        nextlayer.layer = _Opener(nextlayer.context, self)


class _Opener(layer.Layer):
    def __init__(self, ctx: context.Context, addon: OpensItsOwn) -> None:
        super().__init__(ctx)
        self.addon = addon

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            made = connection.Server(address=self.addon.address)
            self.addon.outcome.append((yield commands.OpenConnection(made)))
            yield commands.CloseConnection(self.context.client)


@pytest.mark.parametrize(("rule", "dialled"), [("exit", 1), ("refuse", 0)])
async def test_a_connection_of_another_addons_layer_is_decided_like_any(
    rule: str, dialled: int, tmp_path: Path
) -> None:
    async with TcpEcho() as echo, make("socks5") as proxy:
        addon = OpensItsOwn(echo.address)
        exits = [entry("socks5", proxy)]
        async with egress(tmp_path, proxies=exits, rules=[{"use": rule}]) as mitm:
            join(mitm, addon, first=True)
            async with wire(mitm.port) as client:
                await client.send(b"anything")
                assert await client.closed() == b""
        assert (echo.accepted, proxy.accepted) == (dialled, dialled)
    assert [bool(error) for error in addon.outcome] == [not dialled]


class _Handler(server.LiveConnectionHandler):
    """A connection handler that was not announced, so it has no root layer."""

    master: Any

    async def handle_hook(self, hook: commands.StartHook) -> None:
        if not isinstance(hook, ClientConnectedHook):
            await self.master.addons.handle_lifecycle(hook)


async def test_an_unannounced_connection_handler_dials_nothing(tmp_path: Path) -> None:
    async with TcpEcho(banner=b"hello") as echo, egress(tmp_path) as mitm:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            made = _Handler(reader, writer, mitm.options, ProxyMode.parse("regular"))
            made.master = mitm.master
            made.layer.context.server.address = echo.address
            made.layer = TCPLayer(made.layer.context)
            await made.handle_client()

        listening = await asyncio.start_server(handle, V4, 0)
        async with listening, wire(listening.sockets[0].getsockname()[1]) as client:
            assert await client.closed() == b""
        assert echo.accepted == 0
        await mitm.wait_for_log("not assigned by the policy")


class SetsVia:
    def __init__(self, address: tuple[str, int]) -> None:
        self.via = ("http", address)

    def request(self, flow: http.HTTPFlow) -> None:
        flow.server_conn = connection.Server(address=flow.server_conn.address)
        flow.server_conn.via = self.via  # type: ignore[assignment]


@pytest.mark.parametrize("way", ["http", "https eager", "https lazy", "replay"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_via_of_another_addon_is_not_obeyed(first: bool, way: str, tmp_path: Path) -> None:
    async with target_of(way) as origin, make("http") as other, make("socks5") as proxy:
        exits = [entry("socks5", proxy)]
        strategy = strategy_of(way)
        async with egress(tmp_path, proxies=exits, rules=ALL, connection_strategy=strategy) as mitm:
            join(mitm, SetsVia(other.address), first=first)
            assert await attempt(mitm, way, origin) == 200
    assert (proxy.accepted, other.accepted) == (1, 0)


class Redirects:
    """Rewrites where connections go, as addons for stock mitmproxy do."""

    def __init__(self, address: Any) -> None:
        self.address = address

    def server_connect(self, data: ServerConnectionHookData) -> None:
        data.server.address = self.address


@pytest.mark.parametrize("first", [True, False])
@ways
@pytest.mark.parametrize("host", [V4, "127.0.0.2", "::1", None])
async def test_a_hop_that_another_addon_redirects_is_refused(
    host: str | None, way: str, first: bool, tmp_path: Path
) -> None:
    """What it puts there is never dialled, and may be no address at all."""
    async with (
        target_of(way) as origin,
        make("http") as proxy,
        make("http", host=host or V4) as other,
    ):
        exits = [entry("http", proxy, username="alice", password="s3cret")]
        async with egress(
            tmp_path, proxies=exits, rules=ALL, connection_strategy=strategy_of(way)
        ) as mitm:
            join(mitm, Redirects(other.address if host else (None, 1)), first=first)
            assert await attempt(mitm, way, origin) in (0, 503)
            over = [*mitm.flows, *mitm.connects]
            reasons = {one.metadata.get("egress.reason", "") for one in over}
            assert reasons - {""} == {Reason.PEER_MISMATCH}
    assert (origin.accepted, proxy.requests, other.accepted) == (0, [], 0)
    if first:  # the guard sees it
        assert proxy.accepted == 0


@pytest.mark.parametrize("host", [V4, "127.0.0.2", "::1"])
@pytest.mark.parametrize(("family", "status"), [("ipv4", 503), ("auto", 200)])
async def test_a_direct_connection_may_be_redirected_by_another_addon_unless_it_is_pinned(
    family: str, status: int, host: str, tmp_path: Path
) -> None:
    rules = [{"use": "direct", "family": family}]
    other = Origin(host=host)
    async with Origin() as origin, other, egress(tmp_path, rules=rules) as mitm:
        join(mitm, Redirects(other.address))
        assert (await http_get(mitm.port, origin.url())).status == status
        assert other.accepted == len(other.requests) == (status == 200)
        assert origin.requests == []


# --- I4: exceptions


class RaisesInHook:
    """Raises in one hook, however often it fires."""

    def __init__(self, hook: str) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("broken on purpose")

        setattr(self, hook, broken)


HOOKS = [
    "client_connected",
    "client_disconnected",
    "server_connect",
    "server_connected",
    "server_disconnected",
    "server_connect_error",
    "http_connect",
    "http_connected",
    "http_connect_upstream",
    "http_connect_error",
    "requestheaders",
    "request",
    "responseheaders",
    "response",
    "error",
    "next_layer",
    "tls_clienthello",
    "tls_start_client",
    "tls_start_server",
    "tls_established_client",
    "tls_established_server",
    "tcp_start",
    "tcp_message",
    "tcp_end",
    "update",
    "egress_connect",
]


@pytest.mark.parametrize("hook", HOOKS)
async def test_an_exception_in_another_addon_leads_no_flow_past_its_exit(
    hook: str, tmp_path: Path
) -> None:
    async with (
        Origin() as plain,
        origin_for(True) as https,
        TcpEcho() as echo,
        make("http") as proxy,
        egress(tmp_path, proxies=[entry("http", proxy)], rules=ALL, expect_errors=True) as mitm,
    ):
        join(mitm, RaisesInHook(hook), first=True)
        targets = {"http": plain, "https": https, "tcp": echo, "replay": plain}
        statuses = [await attempt(mitm, way, origin) for way, origin in targets.items()]
        assert statuses == [200] * 4
        assert plain.accepted + https.accepted + echo.accepted == len(proxy.requests) == 4
        # The last is for connections that wait for DNS.
        if hook not in ("server_connect_error", "http_connect_error", "error", "egress_connect"):
            await mitm.wait_for_log("broken on purpose")


def raises(*_: object, **__: object) -> Any:
    raise RuntimeError("broken on purpose")


def cancelled(*_: object, **__: object) -> Any:
    raise asyncio.CancelledError("broken on purpose")


class BrokenSnapshot:
    """A snapshot that cannot be read."""

    def __getattr__(self, name: str) -> Any:
        raises()


Sabotage = Callable[[pytest.MonkeyPatch, EgressRouter, Callable[..., Any]], None]
"""Replaces a function of the policy by one that fails."""

AWAITED: dict[str, Sabotage] = {
    # on the way to a route, from the outer to the inner
    "route": lambda patch, router, fails: patch.setattr(router, "route", fails),
    "prepare": lambda patch, router, fails: patch.setattr(router, "prepare", fails),
    "resolver": lambda patch, router, fails: patch.setattr(router.resolver, "resolve", fails),
    "cache": lambda patch, router, fails: patch.setattr(router.resolver, "_from_dns", fails),
    "flight": lambda patch, router, fails: patch.setattr(router.resolver, "_from_flight", fails),
    "question": lambda patch, _, fails: patch.setattr(resolver, "ask", fails),
    "stub": lambda patch, _, fails: patch.setattr(Stub, "resolve", fails),
}
ON_THE_SPOT: dict[str, Sabotage] = {
    "choose": lambda patch, router, fails: patch.setattr(router, "choose", fails),
    "snapshot": lambda patch, router, _: patch.setattr(router, "_snapshot", BrokenSnapshot()),
    "target": lambda patch, _, fails: patch.setattr(select, "_target", fails),
    "record": lambda patch, _, fails: patch.setattr(select, "keep", fails),
    "guard": lambda patch, _, fails: patch.setattr(EgressGuard, "_arm", fails),
}
OURS = AWAITED | ON_THE_SPOT


@ways
@pytest.mark.parametrize(
    ("where", "fails"),
    [*((where, raises) for where in OURS), *((where, cancelled) for where in AWAITED)],
)
async def test_a_failure_of_our_own_is_a_refusal(
    where: str,
    fails: Callable[..., Any],
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        target_of(way) as origin,
        Nameserver(zone("proxy.test")) as nameserver,
        make("http") as proxy,
        egress(
            tmp_path,
            proxies=[entry("http", proxy, host="proxy.test", family="ipv4")],
            rules=ALL,
            dns=nameserver.port,
            connection_strategy=strategy_of(way),
            expect_errors=True,
        ) as mitm,
    ):
        OURS[where](monkeypatch, mitm.master.addons.get("egressselect").router, fails)
        assert await attempt(mitm, way, origin) == (0 if way == "tcp lazy" else 503)
        if fails is raises:  # a question that is cancelled ends without a word
            assert "broken on purpose" in str([record.exc_info for record in mitm.logs])
        assert (origin.accepted, proxy.accepted) == (0, 0)


@pytest.mark.parametrize("way", ["http", "https eager", "https lazy", "tcp eager", "tcp lazy"])
async def test_a_client_that_cannot_be_guarded_is_closed(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        target_of(way) as origin,
        egress(tmp_path, connection_strategy=strategy_of(way), expect_errors=True) as mitm,
    ):
        monkeypatch.setattr(seams, "wrap", raises)
        assert await attempt(mitm, way, origin) == 0
        await mitm.wait_for_log("cannot guard a connection; it is closed")
        assert origin.accepted == 0


@pytest.mark.parametrize("way", ["http", "https lazy", "replay"])
async def test_a_flow_that_cannot_be_recorded_is_refused(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        target_of(way) as origin,
        egress(tmp_path, connection_strategy=strategy_of(way), expect_errors=True) as mitm,
    ):
        monkeypatch.setattr(select, "write_choice", raises)
        assert await attempt(mitm, way, origin) == 503
        assert origin.accepted == 0


# --- I6: the hostname stays the name that TLS is about


@pytest.mark.parametrize("way", ["http", "https eager", "https lazy", "replay"])
async def test_a_pinned_https_proxy_is_asked_for_by_its_name(way: str, tmp_path: Path) -> None:
    names: list[str | None] = []
    context = tls_for("proxy.test")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with (
        target_of(way) as origin,
        HttpProxy(tls=context) as proxy,
        Nameserver(zone("proxy.test")) as nameserver,
    ):
        exit_ = entry("https", proxy, host="proxy.test", family="ipv4")
        strategy = strategy_of(way)
        async with egress(
            tmp_path,
            proxies=[exit_],
            rules=ALL,
            dns=nameserver.port,
            connection_strategy=strategy,
        ) as mitm:
            assert await attempt(mitm, way, origin) == 200
    assert names == ["proxy.test"]
    assert proxy.families == [4]


WRONG_CERTIFICATES: dict[str, Callable[[], ssl.SSLContext]] = {
    "another name": lambda: authority().server_context("else.test"),
    "an unknown authority": lambda: authority("stranger").server_context("proxy.test"),
}


@pytest.mark.parametrize("way", ["http", "https eager", "https lazy"])
@pytest.mark.parametrize("wrong", WRONG_CERTIFICATES)
async def test_an_https_proxy_with_a_wrong_certificate_learns_nothing(
    wrong: str, way: str, tmp_path: Path
) -> None:
    async with (
        target_of(way) as origin,
        HttpProxy(tls=WRONG_CERTIFICATES[wrong]()) as proxy,
        Nameserver(zone("proxy.test")) as nameserver,
    ):
        exit_ = entry("https", proxy, host="proxy.test", family="ipv4")
        exit_ |= {"username": "alice", "password": "s3cret"}
        async with egress(
            tmp_path,
            proxies=[exit_],
            rules=ALL,
            dns=nameserver.port,
            connection_strategy=strategy_of(way),
        ) as mitm:
            for _ in range(2):
                assert await attempt(mitm, way, origin) == 503
            over = [*mitm.flows, *mitm.connects]
            reasons = {flow.metadata.get("egress.reason") for flow in over} - {None}
            assert reasons == {Reason.HANDSHAKE_FAILED}
    assert (origin.accepted, proxy.requests) == (0, [])
