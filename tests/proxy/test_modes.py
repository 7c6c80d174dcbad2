"""Each way into mitmproxy: its flows leave by the policy, and what worked before still works."""

from pathlib import Path
from typing import Any

import pytest
from dnslib import RCODE, DNSRecord
from mitmproxy import dns, platform
from mitmproxy.addons.view import View

from tests.helpers.certs import authority
from tests.helpers.clients import ConnectRefused, connect, http_get, session, socks5, wire
from tests.helpers.http3 import Http3Origin, http3_get
from tests.helpers.lab import (
    Datagrams,
    WebSocket,
    egress_metadata,
    refusal_in,
    tls_for,
    upgrade,
    zone,
)
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Origin, TcpEcho, UdpEcho, WebSocketOrigin, tls_context
from tests.helpers.proxies import entry, make
from tests.helpers.scene import egress

types = pytest.mark.parametrize("type_", ["http", "https", "socks5"])
strategies = pytest.mark.parametrize("strategy", ["eager", "lazy"])
SOCKS5_IN = ["socks5@127.0.0.1:0"]


# --- protocols in which the server speaks first, and certificates that mirror the upstream's


@types
@pytest.mark.parametrize("way_in", ["CONNECT", "SOCKS5"])
async def test_a_server_that_speaks_first_is_heard(way_in: str, type_: str, tmp_path: Path) -> None:
    mode = ["regular"] if way_in == "CONNECT" else SOCKS5_IN
    enter = connect if way_in == "CONNECT" else socks5
    async with TcpEcho(banner=b"220 ready\r\n") as echo, make(type_) as proxy:
        exits = [entry(type_, proxy)]
        async with (
            egress(tmp_path, proxies=exits, rules=[{"use": "exit"}], mode=mode) as mitm,
            enter(mitm.port, "127.0.0.1", echo.port) as tunnel,
        ):
            assert await tunnel.receive(11) == b"220 ready\r\n"
            await tunnel.send(b"EHLO")
            assert await tunnel.receive(4) == b"EHLO"
    assert proxy.targets == [echo.authority]


@types
async def test_bytes_right_after_the_proxys_reply_belong_to_the_target(
    type_: str, tmp_path: Path
) -> None:
    async with TcpEcho() as echo, make(type_) as proxy:
        proxy.faults.behind = b"220 at once\r\n"
        proxy.faults.trickle = True
        exits = [entry(type_, proxy)]
        async with (
            egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm,
            connect(mitm.port, "127.0.0.1", echo.port) as tunnel,
        ):
            assert await tunnel.receive(13) == b"220 at once\r\n"


@types
async def test_the_forged_certificate_mirrors_the_names_seen_through_the_egress(
    type_: str, tmp_path: Path
) -> None:
    async with Origin(tls=tls_for("mirrored.test")) as origin:
        there = {"origin.test": origin.address}
        async with make(type_, resolve=there) as proxy:
            exits = [entry(type_, proxy)]
            async with (
                egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm,
                connect(mitm.port, "origin.test", origin.port) as tunnel,
            ):
                shown = await tunnel.start_tls(mitm.ca_cert, "origin.test")
    certificate: Any = shown.getpeercert()
    assert ("DNS", "mirrored.test") in certificate["subjectAltName"]


# --- upstream mode: its proxy stands for direct


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@strategies
async def test_unmatched_flows_take_the_upstream_of_the_mode(
    tls: bool, strategy: str, scheme: str, tmp_path: Path
) -> None:
    async with Origin(tls=tls_context("http/1.1") if tls else None) as origin, make(scheme) as up:
        mode = [f"upstream:{scheme}://{up.authority}"]
        async with (
            egress(tmp_path, mode=mode, connection_strategy=strategy) as mitm,
            session(mitm.port, origin.url(), mitm.ca_cert) as through,
        ):
            assert [(await through.get(f"/{n}")).status for n in range(3)] == [200] * 3
            flows = await mitm.wait_for_flows(3)
        metadata = egress_metadata(flows[0])
    assert (metadata["use"], metadata["proxy"]) == ("proxy", "upstream")
    assert up.accepted == 1
    assert {asked.line.split()[0] for asked in up.requests} == {"CONNECT" if tls else "GET"}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@strategies
async def test_the_upstream_of_the_mode_is_subject_to_the_default(
    tls: bool, strategy: str, tmp_path: Path
) -> None:
    async with Origin(tls=tls_context("http/1.1") if tls else None) as origin, make("http") as up:
        mode = [f"upstream:http://{up.authority}"]
        async with egress(
            tmp_path, mode=mode, connection_strategy=strategy, egress_default="refuse"
        ) as mitm:
            body = refusal_in(await http_get(mitm.port, origin.url(), ca=mitm.ca_cert))
    assert (body["code"], body["reason"]) == ("EGRESS_REFUSED", "default")
    assert (up.accepted, origin.accepted) == (0, 0)


@types
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@strategies
async def test_a_rule_overrides_the_upstream_of_the_mode(
    tls: bool, strategy: str, type_: str, tmp_path: Path
) -> None:
    async with (
        Origin(tls=tls_context("http/1.1") if tls else None) as origin,
        make("http") as up,
        make(type_) as proxy,
        egress(
            tmp_path,
            proxies=[entry(type_, proxy)],
            rules=[{"hosts": ["127.0.0.1"], "use": "exit"}],
            mode=[f"upstream:http://{up.authority}"],
            connection_strategy=strategy,
        ) as mitm,
        session(mitm.port, origin.url(), mitm.ca_cert) as through,
    ):
        assert [(await through.get(f"/{n}")).status for n in range(3)] == [200] * 3
    assert up.accepted == 0
    assert proxy.accepted == 1


async def test_a_rule_for_direct_overrides_the_upstream_of_the_mode(tmp_path: Path) -> None:
    async with Origin() as origin, make("http") as up:
        mode = [f"upstream:http://{up.authority}"]
        async with egress(tmp_path, rules=[{"use": "direct"}], mode=mode) as mitm:
            assert (await http_get(mitm.port, origin.url())).status == 200
    assert (up.accepted, origin.accepted) == (0, 1)


@strategies
async def test_raw_tcp_takes_the_upstream_of_the_mode(strategy: str, tmp_path: Path) -> None:
    async with TcpEcho() as echo, make("http") as up:
        mode = [f"upstream:http://{up.authority}"]
        async with (
            egress(tmp_path, mode=mode, connection_strategy=strategy) as mitm,
            connect(mitm.port, "127.0.0.1", echo.port) as tunnel,
        ):
            await tunnel.send(b"\x00raw")
            assert await tunnel.receive(4) == b"\x00raw"
    assert up.targets == [echo.authority]


# --- SOCKS5 as the way in, and reverse mode


@types
@strategies
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_socks5_clients_leave_by_the_egress(
    tls: bool, strategy: str, type_: str, tmp_path: Path
) -> None:
    async with Origin(tls=tls_context("http/1.1") if tls else None) as origin:
        there = {"origin.test": origin.address}
        async with (
            make(type_, resolve=there) as proxy,
            egress(
                tmp_path,
                proxies=[entry(type_, proxy)],
                rules=[{"hosts": ["origin.test"], "use": "exit"}],
                default="refuse",
                mode=SOCKS5_IN,
                connection_strategy=strategy,
            ) as mitm,
            socks5(mitm.port, "origin.test", origin.port) as tunnel,
        ):
            if tls:
                await tunnel.start_tls(mitm.ca_cert, "origin.test")
            host = f"origin.test:{origin.port}"
            answers = [await tunnel.request("GET", f"/{n}", host) for n in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert proxy.accepted == 1


@strategies
async def test_a_refused_socks5_client_gets_a_failure_reply(strategy: str, tmp_path: Path) -> None:
    async with Origin() as origin:
        async with egress(
            tmp_path, default="refuse", mode=SOCKS5_IN, connection_strategy=strategy
        ) as mitm:
            if strategy == "eager":
                with pytest.raises(ConnectionError, match="4"):  # host unreachable
                    async with socks5(mitm.port, "127.0.0.1", origin.port):
                        pass
                return
            async with socks5(mitm.port, "127.0.0.1", origin.port) as tunnel:
                refusal_in(await tunnel.request("GET", "/", origin.authority))
        assert origin.accepted == 0


@types
@strategies
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_reverse_mode_leaves_by_the_egress(
    tls: bool, strategy: str, type_: str, tmp_path: Path
) -> None:
    async with (
        Origin(tls=tls_context("http/1.1") if tls else None) as origin,
        make(type_) as proxy,
        egress(
            tmp_path,
            proxies=[entry(type_, proxy)],
            rules=[{"use": "exit"}],
            mode=[f"reverse:{origin.url()}"],
            connection_strategy=strategy,
        ) as mitm,
        wire(mitm.port) as client,
    ):
        answers = [await client.request("GET", f"/{n}", "front.test") for n in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert (proxy.accepted, set(proxy.targets)) == (1, {origin.authority})


@strategies
async def test_a_refused_request_in_reverse_mode_is_answered(strategy: str, tmp_path: Path) -> None:
    async with Origin() as origin:
        mode = [f"reverse:{origin.url()}"]
        async with (
            egress(tmp_path, default="refuse", mode=mode, connection_strategy=strategy) as mitm,
            wire(mitm.port) as client,
        ):
            if strategy == "lazy":
                refusal_in(await client.request("GET", "/", "front.test"))
            else:  # as stock mitmproxy does when the target cannot be reached at once
                assert await client.closed() == b""
                await mitm.wait_for_log("egress refused: EGRESS_REFUSED default")
        assert origin.accepted == 0


@types
async def test_reverse_mode_for_tcp_leaves_by_the_egress(type_: str, tmp_path: Path) -> None:
    async with (
        TcpEcho(banner=b"hello") as echo,
        make(type_) as proxy,
        egress(
            tmp_path,
            proxies=[entry(type_, proxy)],
            rules=[{"use": "exit"}],
            mode=[f"reverse:tcp://{echo.authority}"],
        ) as mitm,
    ):
        async with wire(mitm.port) as client:
            assert await client.receive(5) == b"hello"
        (flow,) = await mitm.wait_for_flows(1)
        assert egress_metadata(flow)["proxy"] == "exit"
        assert proxy.targets == [echo.authority]


# --- transparent mode, with the system's word on where the client wanted to go


@types
@strategies
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_transparent_clients_leave_by_the_egress(
    tls: bool, strategy: str, type_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Origin(tls=tls_context("http/1.1") if tls else None) as origin, make(type_) as proxy:
        monkeypatch.setattr(platform, "original_addr", lambda _: origin.address)
        async with (
            egress(
                tmp_path,
                proxies=[entry(type_, proxy)],
                rules=[{"hosts": ["127.0.0.1"], "use": "exit"}],
                default="refuse",
                mode=["transparent"],
                connection_strategy=strategy,
            ) as mitm,
            wire(mitm.port) as client,
        ):
            if tls:
                await client.start_tls(mitm.ca_cert, "origin.test")
            host = f"origin.test:{origin.port}"
            answers = [await client.request("GET", f"/{n}", host) for n in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert (proxy.accepted, set(proxy.targets)) == (1, {origin.authority})


async def test_transparent_mode_decides_by_the_real_target_not_by_the_host_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Origin() as origin:
        monkeypatch.setattr(platform, "original_addr", lambda _: origin.address)
        rules = [{"hosts": ["allowed.test"], "use": "direct"}]
        async with (
            egress(
                tmp_path,
                rules=rules,
                default="refuse",
                mode=["transparent"],
                connection_strategy="lazy",
            ) as mitm,
            wire(mitm.port) as client,
        ):
            refusal_in(await client.request("GET", "/", "allowed.test"))
        assert origin.accepted == 0


async def test_a_plain_request_is_decided_by_its_target_not_by_its_host_header(
    tmp_path: Path,
) -> None:
    rules = [{"hosts": ["allowed.test"], "use": "direct"}]
    async with (
        Origin() as origin,
        egress(tmp_path, rules=rules, default="refuse") as mitm,
        wire(mitm.port) as client,
    ):
        refusal_in(await client.request("GET", origin.url(), "allowed.test"))
        assert origin.accepted == 0


# --- UDP


@pytest.mark.parametrize(("family", "number"), [("auto", 4), ("ipv4", 4), ("ipv6", 6)])
async def test_udp_leaves_directly_over_the_pinned_family(
    family: str, number: int, tmp_path: Path
) -> None:
    host = "::1" if family == "ipv6" else "127.0.0.1"
    name = "127.0.0.1" if family == "auto" else "origin.test"
    async with (
        UdpEcho(host=host) as echo,
        Nameserver(zone("origin.test")) as nameserver,
        egress(
            tmp_path,
            rules=[{"use": "direct", "family": family}],
            default="refuse",
            dns=nameserver.port,
            mode=[f"reverse:udp://{name}:{echo.port}@127.0.0.1:0"],
        ) as mitm,
        Datagrams(mitm.port) as client,
    ):
        client.send(b"\x00ping")
        assert await client.receive() == b"\x00ping"
        assert echo.families == [number]


@types
@pytest.mark.parametrize("way", ["rule", "pool"])
async def test_udp_is_refused_where_a_proxy_is_chosen(way: str, type_: str, tmp_path: Path) -> None:
    async with (
        UdpEcho() as echo,
        make(type_) as proxy,
        egress(
            tmp_path,
            proxies=[entry(type_, proxy)],
            pools=[{"name": "all", "members": ["exit"]}],
            rules=[{"use": "exit" if way == "rule" else "all"}],
            mode=[f"reverse:udp://127.0.0.1:{echo.port}@127.0.0.1:0"],
        ) as mitm,
        Datagrams(mitm.port) as client,
    ):
        client.send(b"\x00ping")
        await mitm.wait_for_log("egress refused: EGRESS_REFUSED udp_over_proxy")
    assert (proxy.accepted, echo.received) == (0, [])


@pytest.mark.parametrize(("family", "number"), [("auto", 4), ("ipv4", 4), ("ipv6", 6)])
async def test_http3_leaves_directly_over_the_pinned_family(
    family: str, number: int, tmp_path: Path
) -> None:
    host = "::1" if family == "ipv6" else "127.0.0.1"
    name = "localhost" if family == "auto" else "origin.test"
    async with (
        Http3Origin(host=host) as origin,
        Nameserver(zone("origin.test")) as nameserver,
        egress(
            tmp_path,
            rules=[{"use": "direct", "family": family}],
            default="refuse",
            dns=nameserver.port,
            mode=[f"reverse:http3://{name}:{origin.port}@127.0.0.1:0"],
        ) as mitm,
    ):
        answer = await http3_get(mitm.port, mitm.ca_cert, name)
        assert (answer.status, answer.json["family"]) == (200, number)
        (flow,) = await mitm.wait_for_flows(1)
        assert egress_metadata(flow)["use"] == "direct"


@types
async def test_http3_is_refused_where_a_proxy_is_chosen(type_: str, tmp_path: Path) -> None:
    async with (
        Http3Origin() as origin,
        make(type_) as proxy,
        egress(
            tmp_path,
            proxies=[entry(type_, proxy)],
            rules=[{"use": "exit"}],
            mode=[f"reverse:http3://127.0.0.1:{origin.port}@127.0.0.1:0"],
        ) as mitm,
    ):
        answer = await http3_get(mitm.port, mitm.ca_cert, "localhost")
        assert refusal_in(answer)["reason"] == "udp_over_proxy"
        assert (proxy.accepted, origin.requests) == (0, [])


class KeepsDns:
    def __init__(self) -> None:
        self.flows: list[dns.DNSFlow] = []

    def dns_response(self, flow: dns.DNSFlow) -> None:
        self.flows.append(flow)

    def dns_error(self, flow: dns.DNSFlow) -> None:
        self.flows.append(flow)


@pytest.mark.parametrize("default", ["direct", "refuse"])
async def test_dns_queries_in_reverse_mode_are_subject_to_the_policy(
    default: str, tmp_path: Path
) -> None:
    keeps = KeepsDns()
    async with (
        Nameserver(zone("origin.test")) as nameserver,
        egress(
            tmp_path,
            default=default,
            mode=[f"reverse:dns://127.0.0.1:{nameserver.port}@127.0.0.1:0"],
        ) as mitm,
        Datagrams(mitm.port) as client,
    ):
        mitm.master.addons.add(keeps)
        client.send(DNSRecord.question("origin.test").pack())
        answer = DNSRecord.parse(await client.receive())
        assert RCODE[answer.header.rcode] == ("NOERROR" if default == "direct" else "SERVFAIL")
        assert nameserver.queries.total() == (default == "direct")
    (flow,) = keeps.flows
    assert egress_metadata(flow)["use"] == default


# --- connections that mitmproxy is told not to intercept


@types
@strategies
async def test_a_connection_that_is_not_intercepted_leaves_by_the_egress(
    strategy: str, type_: str, tmp_path: Path
) -> None:
    async with Origin(tls=tls_context("http/1.1")) as origin, make(type_) as proxy:
        exits = [entry(type_, proxy)]
        async with (
            egress(
                tmp_path,
                proxies=exits,
                rules=[{"use": "exit"}],
                ignore_hosts=["127.0.0.1"],
                connection_strategy=strategy,
            ) as mitm,
            connect(mitm.port, "127.0.0.1", origin.port) as tunnel,
        ):
            await tunnel.start_tls(authority().ca_path, "127.0.0.1")
            assert (await tunnel.request("GET", "/", origin.authority)).status == 200
    assert proxy.targets == [origin.authority]


@strategies
@pytest.mark.parametrize("tuning", [{"ignore_hosts": [".*"]}, {"allow_hosts": ["other.test"]}])
async def test_a_refused_connection_that_would_not_be_intercepted_gets_503_at_connect(
    tuning: dict[str, Any], strategy: str, tmp_path: Path
) -> None:
    async with (
        Origin() as origin,
        egress(tmp_path, default="refuse", connection_strategy=strategy, **tuning) as mitm,
    ):
        view = View()
        mitm.master.addons.add(view)
        with pytest.raises(ConnectRefused) as refused:
            async with connect(mitm.port, "127.0.0.1", origin.port):
                pass
        body = refusal_in(refused.value.answer)
        assert body["reason"] == "default"
        assert [flow.id for flow in view] == [body["flow_id"]]
        assert egress_metadata(view[0])["reason"] == "default"
        assert origin.accepted == 0


# --- WebSocket by every door


@types
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
async def test_websockets_are_tunnelled_and_stay_open(
    tls: bool, type_: str, tmp_path: Path
) -> None:
    async with WebSocketOrigin(tls=tls_context() if tls else None) as origin, make(type_) as proxy:
        exits = [entry(type_, proxy)]
        host = f"127.0.0.1:{origin.port}"
        async with egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm:
            async with session(mitm.port, origin.url().replace("ws", "http"), mitm.ca_cert) as way:
                target = "/chat" if tls else f"http://{host}/chat"
                assert (await upgrade(way.wire, target, host)).status == 101
                socket = WebSocket(way.wire)
                assert [await socket.echo(text) for text in ("one", "two")] == ["one", "two"]
                await socket.close()
            (flow,) = await mitm.wait_for_flows(1)
    assert egress_metadata(flow)["proxy"] == "exit"
    assert proxy.targets == [host]


# --- streamed bodies


@types
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_streamed_bodies_leave_by_the_egress(tls: bool, type_: str, tmp_path: Path) -> None:
    async with Origin(tls=tls_context("http/1.1") if tls else None) as origin, make(type_) as proxy:
        exits = [entry(type_, proxy)]
        async with (
            egress(
                tmp_path, proxies=exits, rules=[{"use": "exit"}], stream_large_bodies="10"
            ) as mitm,
            session(mitm.port, origin.url(), mitm.ca_cert) as through,
        ):
            sent = await through.request("POST", "/", body=b"x" * 100_000)
            got = await through.get("/stream?chunks=5&size=20000")
            flows = await mitm.wait_for_flows(2)
        assert len(sent.json["body"]) == len(got.body) == 100_000
        assert [egress_metadata(flow)["reused"] for flow in flows] == [False, True]
        assert proxy.accepted == 1


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_streamed_request_that_is_refused_gets_503_and_the_next_one_works(
    tls: bool, tmp_path: Path
) -> None:
    rules = [{"filter": "~m POST", "use": "refuse"}, {"use": "direct"}]
    async with (
        Origin(tls=tls_context("http/1.1") if tls else None) as origin,
        egress(tmp_path, rules=rules, stream_large_bodies="10") as mitm,
        session(mitm.port, origin.url(), mitm.ca_cert) as through,
    ):
        for _ in range(2):
            refusal_in(await through.request("POST", "/", body=b"x" * 100_000))
            assert (await through.get("/after")).status == 200
        assert [request["path"] for request in origin.requests] == ["/after"] * 2
