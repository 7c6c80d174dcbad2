"""An edit of the policy ends each flow that it refuses, and no other."""

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.tls import ClientHelloData

from egress_policy.errors import Reason
from egress_policy.proxy import streams
from tests.helpers.clients import http2_client, http_get, session, wire
from tests.helpers.lab import V4, egress_metadata, refusal_in, tls_for, upgrade
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Http2Origin, Origin, tls_context
from tests.helpers.proxies import HttpProxy, Socks5Proxy
from tests.helpers.scene import egress, reload_policy, write_policy
from tests.helpers.server import LabServer
from tests.helpers.watch import poll

KINDS = ["direct", "http", "connect", "https", "socks5"]
REFUSE_BAD = {"filter": "~hq bad", "use": "refuse"}

kinds = pytest.mark.parametrize("kind", KINDS)


@asynccontextmanager
async def by_exit(folder: Path, kind: str, **options: Any) -> AsyncIterator[tuple[Mitm, Any]]:
    """A mitmproxy whose flows leave by an exit of this kind, and a function that adds rules in
    front."""
    class_ = Socks5Proxy if kind == "socks5" else HttpProxy
    async with class_(tls=tls_for("proxy.test") if kind == "https" else None) as proxy:
        exit_ = {"name": "exit", "host": V4, "port": proxy.port}
        exit_ |= {"type": {"connect": "http", "direct": "http"}.get(kind, kind)}
        exit_ |= {"plain_http": "connect"} if kind == "connect" else {}
        # The family keeps its connections from being any other's.
        rule = {"use": "direct", "family": "ipv4"} if kind == "direct" else {"use": "exit"}

        async def edit(*rules: dict[str, Any]) -> None:
            write_policy(folder / "policy.yaml", proxies=[exit_], rules=[*rules, rule])
            await reload_policy()

        options = {"connection_strategy": "lazy", "ssl_insecure": True, **options}
        async with egress(folder, proxies=[exit_], rules=[rule], **options) as mitm:
            yield mitm, edit


class Upgradable(LabServer):
    """Answers requests on one connection, and echoes what comes after an upgrade."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                break
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        await reader.read()


@kinds
@pytest.mark.parametrize("refused", [True, False], ids=["refused", "spared"])
async def test_a_websocket_on_a_used_connection_is_judged_by_itself(
    refused: bool, kind: str, tmp_path: Path
) -> None:
    """The connection was made for a request that the edit treats the opposite way."""
    bad, other = [("x", "bad")], [("x", "other")]
    async with (
        Upgradable() as origin,
        by_exit(tmp_path, kind) as (mitm, edit),
        wire(mitm.port) as client,
    ):
        url, host = f"http://{origin.authority}/", origin.authority
        first = await client.request("GET", url, host, other if refused else bad)
        assert first.status == 200
        answer = await upgrade(client, url, host, bad if refused else other)
        assert answer.status == 101
        await edit(REFUSE_BAD)
        if refused:
            await client.closed()
        else:
            assert (await http_get(mitm.port, url, headers=bad)).status == 503
            assert not client.reader.at_eof()
            assert origin.open
    assert origin.accepted == (2 if kind in ("http", "https") else 1)  # upgrades are tunnelled


@kinds
async def test_of_two_streams_on_one_connection_the_refused_one_ends(
    kind: str, tmp_path: Path
) -> None:
    async with Http2Origin() as origin, by_exit(tmp_path, kind) as (mitm, edit):
        async with http2_client(mitm.port, mitm.ca_cert) as client:
            assert (await client.get(origin.url(V4))).status_code == 200
            good, bad = (
                asyncio.create_task(client.get(origin.url(V4, path), headers={"x": path[-3:]}))
                for path in ("/hold-fit", "/hold-bad")
            )
            await origin.until(lambda: len(origin.requests) == 3)
            await edit(REFUSE_BAD)
            assert (await bad).status_code == 502
            assert not good.done()
            await origin.until(lambda: origin.resets == ["/hold-bad"])
            origin.release.set()
            assert (await good).status_code == 200
            assert (await client.get(origin.url(V4))).status_code == 200
        assert origin.accepted == 1


def are_gone(kept: Iterable[Callable[[], object]]) -> bool:
    """Whether no weak reference leads to an object any more."""
    gc.collect()
    return not any(reference() for reference in kept)


@pytest.mark.parametrize("fault", ["raises", "does nothing"])
async def test_a_stream_that_cannot_be_ended_by_itself_ends_with_its_connection(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        if fault == "raises":
            raise RuntimeError("broken on purpose")

    async with (
        Http2Origin() as origin,
        by_exit(tmp_path, "http", expect_errors=True) as (mitm, edit),
        http2_client(mitm.port, mitm.ca_cert) as client,
    ):
        assert (await client.get(origin.url(V4))).status_code == 200
        good, bad = (
            asyncio.create_task(client.get(origin.url(V4, path), headers={"x": path[-3:]}))
            for path in ("/hold-fit", "/hold-bad")
        )
        await origin.until(lambda: len(origin.requests) == 3)
        monkeypatch.setattr(streams, "http_layer_of", broken)
        await edit(REFUSE_BAD)
        assert (await bad).status_code == 502
        assert (await good).status_code == 502


async def test_a_stream_that_waits_for_the_server_to_allow_it_is_not_sent(tmp_path: Path) -> None:
    async with Http2Origin(at_once=1) as origin, by_exit(tmp_path, "http") as (mitm, edit):
        async with http2_client(mitm.port, mitm.ca_cert) as client:
            assert (await client.get(origin.url(V4))).status_code == 200
            good = asyncio.create_task(client.get(origin.url(V4, "/hold-fit")))
            await origin.until(lambda: len(origin.requests) == 2)
            bad = asyncio.create_task(client.get(origin.url(V4, "/x"), headers={"x": "bad"}))
            while not any(one.flow.request.path == "/x" for one, _ in streams.under_way()):
                await asyncio.sleep(0)  # it waits, and nothing tells of it
            await edit(REFUSE_BAD)
            assert (await bad).status_code == 502
            origin.release.set()
            assert (await good).status_code == 200
            assert (await client.get(origin.url(V4))).status_code == 200
        assert [asked["path"] for asked in origin.requests] == ["/", "/hold-fit", "/"]
        assert origin.resets == []


async def test_of_streams_that_wait_for_a_slow_exit_the_refused_one_is_not_sent(
    tmp_path: Path,
) -> None:
    gate = asyncio.Event()
    records = {("proxy.test", "A"): Reply([V4], gate=gate)}
    async with Http2Origin() as origin, HttpProxy() as proxy, Nameserver(records) as nameserver:
        there = {"name": "exit", "host": "proxy.test", "port": proxy.port, "family": "ipv4"}
        use = {"use": "exit"}
        async with (
            egress(
                tmp_path,
                proxies=[there],
                rules=[{"filter": "~hq warm", "use": "direct"}, use],
                dns=nameserver.port,
                connection_strategy="lazy",
            ) as mitm,
            http2_client(mitm.port, mitm.ca_cert) as client,
        ):
            warm = await client.get(origin.url(V4), headers={"x": "warm"})
            assert warm.status_code == 200
            bad, good, later = (
                asyncio.create_task(client.get(origin.url(V4, f"/{word}"), headers={"x": word}))
                for word in ("bad", "good", "bad-too")
            )
            await nameserver.arrived.wait()
            rules = [REFUSE_BAD, use]
            write_policy(tmp_path / "policy.yaml", proxies=[there], rules=rules)
            await reload_policy()
            gate.set()
            assert [one.status_code for one in (await bad, await good, await later)] == [
                503,
                200,
                503,
            ]
        assert [asked["path"] for asked in origin.requests] == ["/", "/good"]
        assert proxy.targets == [origin.authority]


class OffersHttp1:
    """Otherwise the client would be offered what the server speaks."""

    def tls_clienthello(self, data: ClientHelloData) -> None:
        data.context.server.alpn_offers = [b"http/1.1"]


async def test_flows_leave_by_the_exit_that_their_record_names(tmp_path: Path) -> None:
    """HTTP/2 from the client and HTTP/1 to the server: each stream has its own connection, except
    the first, which gets that of the CONNECT."""
    async with (
        Origin(tls=tls_context("http/1.1")) as origin,
        Socks5Proxy() as one,
        Socks5Proxy() as two,
    ):
        exits = [
            {"name": name, "type": "socks5", "host": V4, "port": proxy.port}
            for name, proxy in (("one", one), ("two", two))
        ]
        pools = [{"name": "homes", "members": ["one", "two"]}]
        async with (
            egress(
                tmp_path,
                proxies=exits,
                pools=pools,
                rules=[{"use": "homes"}],
            ) as mitm,
            http2_client(mitm.port, mitm.ca_cert) as client,
        ):
            mitm.master.addons.add(OffersHttp1())
            for count in (1, 2, 3, 4):
                await asyncio.gather(*(client.get(origin.url(V4)) for _ in range(count)))
            flows = await mitm.wait_for_flows(10)
        named = Counter(egress_metadata(flow)["proxy"] for flow in flows)
        assert named == {"one": one.accepted, "two": two.accepted}


# -- memory: a flow that is over is kept by nobody


@kinds
@pytest.mark.parametrize("way", ["http", "https lazy", "https eager", "h2"])
async def test_a_connection_keeps_none_of_the_flows_that_it_carried(
    way: str, kind: str, tmp_path: Path
) -> None:
    class Notes:
        def __init__(self) -> None:
            self.flows: list[weakref.ref[http.HTTPFlow]] = []

        def request(self, flow: http.HTTPFlow) -> None:
            self.flows.append(weakref.ref(flow))

    plain = None if way == "http" else tls_context("http/1.1")
    origin: Any = Http2Origin() if way == "h2" else Origin(tls=plain)
    strategy = "eager" if way == "https eager" else "lazy"
    async with origin, by_exit(tmp_path, kind, connection_strategy=strategy) as (mitm, edit):
        mitm.master.addons.add(notes := Notes())
        if way == "h2":
            async with http2_client(mitm.port, mitm.ca_cert) as h2:
                for _ in range(3):
                    assert (await h2.post(origin.url(V4), content=b"x" * 1000)).status_code == 200
                await edit(REFUSE_BAD)
                assert (await h2.get(origin.url(V4), headers={"x": "bad"})).status_code == 503
                await _forgotten(mitm, notes.flows, 4)
        else:
            async with session(mitm.port, origin.url(), mitm.ca_cert) as client:
                for _ in range(3):
                    answer = await client.request("POST", "/", body=b"x" * 1000)
                    assert answer.status == 200
                await edit(REFUSE_BAD)
                assert (await client.get("/", [("x", "bad")])).status == 503
                await _forgotten(mitm, notes.flows, 4)


@kinds
async def test_a_flow_that_is_stored_keeps_nothing_of_its_connections_task(
    kind: str, tmp_path: Path
) -> None:
    class Handlers:
        def __init__(self) -> None:
            self.known: list[weakref.ref[Any]] = []

        def client_connected(self, client: Any) -> None:
            connections = mitm.master.addons.get("proxyserver").connections
            self.known.append(weakref.ref(connections[client.id]))

    async with (
        Origin(tls=tls_context("http/1.1")) as origin,
        by_exit(tmp_path, kind) as (mitm, _),
    ):
        mitm.master.addons.add(handlers := Handlers())
        for _ in range(3):
            answer = await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
            assert answer.status == 200
        await mitm.wait_for_flows(3)
        await mitm.until(lambda: not mitm.clients)
        mitm.logs.clear()
        await poll(lambda: are_gone(handlers.known))
        assert (len(handlers.known), len(mitm.flows)) == (3, 3)


class EditsLate:
    """Redirects a request once it has a connection."""

    def request(self, flow: http.HTTPFlow) -> None:
        self.flow = flow

    def server_connected(self, _: Any) -> None:
        self.flow.request.host = "bad.test"


@kinds
async def test_a_flow_that_is_edited_while_it_waits_is_decided_for_what_it_became(
    kind: str, tmp_path: Path
) -> None:
    async with Origin() as origin, by_exit(tmp_path, kind) as (mitm, edit):
        await edit({"hosts": ["bad.test"], "use": "refuse"})
        mitm.master.addons.add(EditsLate())
        answer = await http_get(mitm.port, origin.url())
        assert refusal_in(answer)["reason"] == Reason.RULE
        assert origin.requests == []


async def _forgotten(mitm: Mitm, flows: list[weakref.ref[http.HTTPFlow]], count: int) -> None:
    await mitm.wait_for_flows(count)
    mitm.flows.clear()
    mitm.connects.clear()
    mitm.logs.clear()
    await poll(lambda: are_gone(flows))  # finished tasks let go in their own time
    assert len(flows) == count
