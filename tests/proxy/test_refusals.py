"""Faults between mitmproxy and the exit: a 503 that names them, and no harm to later flows."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from egress_policy.client.probe import probe
from egress_policy.errors import Reason
from egress_policy.model.proxy import Proxy
from egress_policy.model.target_url import parse_target_url
from egress_policy.policy import hop
from egress_policy.proxy import dialer
from egress_policy.wire.hint import SILENT_TO_SOCKS, SILENT_TO_TLS
from tests.helpers.certs import authority
from tests.helpers.client_paths import origin_for, strategy_of
from tests.helpers.clients import http2_client, http_get, session
from tests.helpers.lab import V4, dual_stack, egress_metadata, refusal_in, zone
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply, Zone
from tests.helpers.origin import Http2Origin, Origin, tls_context
from tests.helpers.proxies import Faults, HttpProxy, Socks5Proxy, entry, make
from tests.helpers.routes import route_by
from tests.helpers.scene import egress
from tests.helpers.server import LabServer

types = pytest.mark.parametrize("type_", ["http", "https", "socks5"])
ways = pytest.mark.parametrize("way", ["http", "https eager", "https lazy"])
tunnelled = pytest.mark.parametrize("way", ["https eager", "https lazy"])

ALL = [{"use": "exit"}]


@asynccontextmanager
async def through(
    folder: Path, way: str, exit_: dict[str, Any], **options: Any
) -> AsyncIterator[tuple[Mitm, Origin]]:
    """An origin, and a mitmproxy with one exit for everything."""
    options = {"rules": ALL, "connection_strategy": strategy_of(way)} | options
    async with (
        origin_for(way != "http") as origin,
        egress(folder, proxies=[exit_], **options) as mitm,
    ):
        yield mitm, origin


async def refused(mitm: Mitm, origin: Origin, reason: Reason, detail: str = "") -> dict[str, Any]:
    """One request, which must be refused for this reason without reaching the origin."""
    body = refusal_in(await http_get(mitm.port, origin.url(), ca=mitm.ca_cert))
    assert (body["reason"], body["code"]) == (reason, reason.code)
    assert detail in body["detail"]
    assert origin.requests == []
    flows = [*mitm.connects, *mitm.flows]
    (flow,) = [flow for flow in flows if flow.id == body["flow_id"]]
    metadata = egress_metadata(flow)
    assert (metadata["reason"], metadata["code"]) == (reason, reason.code)
    return body


@contextmanager
def closed_port() -> Iterator[socket.socket]:
    """A port of 127.0.0.1 that refuses connections until the socket listens."""
    with socket.socket() as sock:
        sock.bind((V4, 0))
        yield sock


@contextmanager
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 on which connections are neither accepted nor refused."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind((V4, 0))
        sock.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


# --- the hop itself


@types
@ways
async def test_a_port_that_nobody_listens_on(way: str, type_: str, tmp_path: Path) -> None:
    with closed_port() as sock:
        port = sock.getsockname()[1]
        async with through(tmp_path, way, entry(type_, port)) as (mitm, origin):
            await refused(mitm, origin, Reason.CONNECT_REFUSED, f"127.0.0.1 port {port}")


@ways
async def test_an_address_that_does_not_answer_in_time(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "ADDRESS_TIMEOUT", 0.2)
    with silent_port() as port:
        async with through(tmp_path, way, entry("http", port)) as (mitm, origin):
            await refused(mitm, origin, Reason.CONNECT_TIMEOUT, "within 0.2 s")


async def test_a_pinned_direct_target_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "ADDRESS_TIMEOUT", 0.2)
    with silent_port() as port:
        async with egress(tmp_path, rules=[{"use": "direct", "family": "ipv4"}]) as mitm:
            answer = await http_get(mitm.port, f"http://127.0.0.1:{port}/")
            assert refusal_in(answer)["reason"] == Reason.CONNECT_TIMEOUT


@types
@tunnelled
@pytest.mark.parametrize("moment", ["accept", "handshake"])
async def test_a_proxy_that_stalls(
    moment: Any, way: str, type_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hop, "HANDSHAKE_TIMEOUT", 0.2)
    async with (
        make(type_, faults=Faults(stall=moment)) as proxy,
        through(tmp_path, way, entry(type_, proxy.port)) as (mitm, origin),
    ):
        silence = {"socks5": SILENT_TO_SOCKS, "https": SILENT_TO_TLS * (moment == "accept")}
        text = f"no end of the handshake in 0.2 s{silence.get(type_, '')}; refusing"
        await refused(mitm, origin, Reason.HANDSHAKE_FAILED, text)
        await mitm.wait_for_log("server disconnect")


@types
@tunnelled
@pytest.mark.parametrize("moment", ["accept", "handshake"])
async def test_a_proxy_that_resets(moment: Any, way: str, type_: str, tmp_path: Path) -> None:
    async with (
        make(type_, faults=Faults(reset=moment)) as proxy,
        through(tmp_path, way, entry(type_, proxy.port)) as (mitm, origin),
    ):
        await refused(mitm, origin, Reason.HANDSHAKE_FAILED)


@pytest.mark.parametrize("line", [b"HTTP/1.1 101 OK", b"HTTP/1.0  101", b"\r\nHTTP/1.1 101 x"])
async def test_an_answer_that_switches_protocols_unasked_is_refused(
    tmp_path: Path, line: bytes
) -> None:
    """The client's next bytes would reach the proxy without any decision."""
    async with (
        Other(line + b"\r\n\r\n", closes=False) as other,
        Origin() as origin,
        egress(tmp_path, proxies=[entry("http", other.port)], rules=ALL) as mitm,
    ):
        answer = await http_get(mitm.port, origin.url())
        refusal = refusal_in(answer)
        assert refusal["reason"] == Reason.HANDSHAKE_FAILED
        assert "101" in refusal["detail"]


async def test_a_proxy_of_another_type_is_recognised_while_a_body_is_streamed(
    tmp_path: Path,
) -> None:
    async with (
        Other(b"\x05\xff", closes=False) as other,
        Origin() as origin,
        egress(
            tmp_path,
            proxies=[entry("http", other.port)],
            rules=ALL,
            stream_large_bodies="1",
        ) as mitm,
    ):
        async with session(mitm.port, origin.url()) as client:
            answer = await client.request("POST", "/", body=b"x" * 100_000)
        assert refusal_in(answer)["reason"] == Reason.HANDSHAKE_FAILED
        # The next flow has a connection of its own, and the same answer.
        assert refusal_in(await http_get(mitm.port, origin.url()))["proxy"] == "exit"


@types
@ways
async def test_a_proxy_that_talks_nonsense(way: str, type_: str, tmp_path: Path) -> None:
    async with (
        make(type_, faults=Faults(garbage=b"\x00 nonsense \xff\r\n\r\n")) as proxy,
        through(tmp_path, way, entry(type_, proxy.port)) as (mitm, origin),
    ):
        await refused(mitm, origin, Reason.HANDSHAKE_FAILED)
        await mitm.wait_for_log("server disconnect")


class Other(LabServer):
    """Answers any request with `words`, byte by byte, and closes if it `closes`."""

    def __init__(self, words: bytes, closes: bool) -> None:
        super().__init__()
        self.words = words
        self.closes = closes

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        await Faults(trickle=True).write(writer, self.words)
        if not self.closes:
            await reader.read()
        writer.close()


KINDS = [
    ("socks5", b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP proxy (type http)"),
    ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP proxy (type http)"),
    ("http", b"\x05\xff", "a SOCKS proxy (type socks5)"),
    ("https", b"\x05\xff\x00\x00\x00", "a SOCKS proxy (type socks5)"),
    ("http", b"\x00\x5b\x00\x00\x00\x00\x00\x00", "a SOCKS4 proxy, which is not supported"),
    ("http", b"\x15\x03\x01\x00\x02\x02F", "a proxy behind TLS (type https)"),
    ("socks5", b"\x15\x03\x01\x00\x02\x02F", "a proxy behind TLS (type https)"),
]


@pytest.mark.parametrize("closes", [True, False], ids=["closes", "waits"])
@pytest.mark.parametrize("way", ["http", "https eager"])
@pytest.mark.parametrize(("type_", "words", "kind"), KINDS)
async def test_a_proxy_of_another_type_is_recognised(
    type_: str, words: bytes, kind: str, way: str, closes: bool, tmp_path: Path
) -> None:
    async with Other(words, closes) as other:
        exit_ = entry(type_, other.port)
        async with through(tmp_path, way, exit_) as (mitm, origin):
            body = await refused(
                mitm, origin, Reason.HANDSHAKE_FAILED, f": this looks like {kind}; "
            )
            assert (body["proxy"], body["host"], body["rule"]) == ("exit", V4, "#1")
            assert f"egress refused: {body['code']} {body['reason']}" in mitm.text
        scheme = way.partition(" ")[0]
        port = 443 if scheme == "https" else 80
        route = route_by(Proxy.model_validate(exit_), target=("origin.test", port))
        url = parse_target_url(f"{scheme}://origin.test/")
        trusting = authority().client_context(["http/1.1"])
        tested = await probe(route, url, lambda _: trusting)
    assert tested.refusal
    assert tested.refusal.reason is Reason.HANDSHAKE_FAILED
    assert tested.refusal.detail.endswith(f": this looks like {kind}")


@tunnelled
@pytest.mark.parametrize("type_", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (407, Reason.PROXY_AUTH),
        (403, Reason.HANDSHAKE_FAILED),
        (502, Reason.HANDSHAKE_FAILED),
        (302, Reason.HANDSHAKE_FAILED),
    ],
)
async def test_a_proxy_that_answers_connect_with_another_status(
    status: int, reason: Reason, type_: str, way: str, tmp_path: Path
) -> None:
    async with make(type_) as proxy:
        assert isinstance(proxy, HttpProxy)
        proxy.status = status
        async with through(tmp_path, way, entry(type_, proxy.port)) as (mitm, origin):
            await refused(mitm, origin, reason, str(status))


@ways
@pytest.mark.parametrize("credentials", [{}, {"username": "alice", "password": "wr0ng"}])
@types
async def test_a_proxy_that_wants_other_credentials(
    type_: str, credentials: dict[str, str], way: str, tmp_path: Path
) -> None:
    async with (
        make(type_, credentials=("alice", "s3cret")) as proxy,
        through(tmp_path, way, entry(type_, proxy.port, **credentials)) as (mitm, origin),
    ):
        body = await refused(mitm, origin, Reason.PROXY_AUTH)
        assert "wr0ng" not in str(body) + mitm.text + str([f.get_state() for f in mitm.flows])


@tunnelled
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1, "general SOCKS server failure"),
        (2, "connection not allowed by ruleset"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (0x5A, "unassigned reply code 0x5a"),
    ],
)
async def test_a_socks5_reply_that_is_no_success_names_the_proxy_and_the_target(
    code: int, text: str, way: str, tmp_path: Path
) -> None:
    async with Socks5Proxy() as proxy:
        proxy.reply = code
        async with through(tmp_path, way, entry("socks5", proxy.port)) as (mitm, origin):
            body = await refused(mitm, origin, Reason.HANDSHAKE_FAILED)
            assert text.lower() in body["detail"].lower()
            place = f"{origin.host} port {origin.port}"
            assert body["detail"].startswith(f"Proxy exit: asked for {place}, the SOCKS5 proxy")


@pytest.mark.parametrize("version", [0, 1, 5])
async def test_credentials_are_answered_by_the_status_whatever_the_version(
    version: int, tmp_path: Path
) -> None:
    async with Socks5Proxy(credentials=("alice", "s3cret")) as proxy:
        proxy.auth_version = version
        for password, status in (("s3cret", 200), ("wr0ng", 503)):
            exit_ = entry("socks5", proxy.port, username="alice", password=password)
            async with through(tmp_path, "http", exit_) as (mitm, origin):
                answer = await http_get(mitm.port, origin.url())
                assert answer.status == status
        assert refusal_in(answer)["reason"] == Reason.PROXY_AUTH


async def test_a_username_goes_without_a_password(tmp_path: Path) -> None:
    async with Socks5Proxy(credentials=("alice", "")) as proxy:
        exit_ = {"name": "exit", "url": f"socks5://alice@{V4}:{proxy.port}"}
        async with through(tmp_path, "http", exit_) as (mitm, origin):
            assert (await http_get(mitm.port, origin.url())).status == 200
    assert proxy.requests[0].credentials == ("alice", "")


# --- an exit with several addresses


async def test_the_next_address_is_dialled_and_the_good_one_comes_first_from_then_on(
    tmp_path: Path,
) -> None:
    there = {("proxy.test", "A"): ["127.0.0.2", "127.0.0.1"]}
    async with make("socks5") as proxy, Origin() as origin, Nameserver(there) as nameserver:
        exit_ = entry("socks5", proxy.port, host="proxy.test", family="ipv4")
        async with egress(tmp_path, proxies=[exit_], rules=ALL, dns=nameserver.port) as mitm:
            for _ in range(3):
                assert (await http_get(mitm.port, origin.url())).status == 200
            flows = await mitm.wait_for_flows(3)
            failures = mitm.text.count("error establishing server connection")
    assert failures == 1
    assert [egress_metadata(flow)["address"] for flow in flows] == ["127.0.0.1"] * 3
    assert proxy.accepted == 3


async def test_the_next_address_is_dialled_when_the_first_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "ADDRESS_TIMEOUT", 0.2)
    there = {("proxy.test", "A"): ["127.0.0.1", "127.0.0.2"]}
    with silent_port() as port:
        second = make("socks5", host="127.0.0.2")
        async with Origin() as origin, Nameserver(there) as nameserver, second:
            answering = await asyncio.start_server(second._accept, "127.0.0.2", port)
            exit_ = entry("socks5", port, host="proxy.test", family="ipv4")
            async with egress(tmp_path, proxies=[exit_], rules=ALL, dns=nameserver.port) as mitm:
                assert (await http_get(mitm.port, origin.url())).status == 200
                (flow,) = await mitm.wait_for_flows(1)
            answering.close()
    assert egress_metadata(flow)["address"] == "127.0.0.2"
    assert "error establishing server connection" not in mitm.text  # the time-out is the dialler's


async def test_an_address_of_the_other_family_is_no_fall_back(tmp_path: Path) -> None:
    """The exit answers on ::1 only; a pin to IPv4 must not find it there."""
    async with Socks5Proxy(host="::1") as proxy, Nameserver(zone("proxy.test")) as nameserver:
        exit_ = entry("socks5", proxy.port, host="proxy.test", family="ipv4")
        async with through(tmp_path, "http", exit_, dns=nameserver.port) as (mitm, origin):
            await refused(mitm, origin, Reason.CONNECT_REFUSED)
        assert set(nameserver.queries) == {("proxy.test", "A")}
    assert proxy.accepted == 0


# --- DNS

DNS: list[Any] = [
    pytest.param({}, Reason.DNS_FAILURE, id="NXDOMAIN"),
    pytest.param({("x.test", "AAAA"): Reply(rcode="SERVFAIL")}, Reason.DNS_FAILURE, id="SERVFAIL"),
    pytest.param({("x.test", "AAAA"): Reply(rcode="REFUSED")}, Reason.DNS_FAILURE, id="REFUSED"),
    pytest.param({("x.test", "AAAA"): Reply(silent=True)}, Reason.DNS_TIMEOUT, id="silent"),
    pytest.param({("x.test", "A"): [V4]}, Reason.NO_RECORD, id="no AAAA"),
    pytest.param({("x.test", "AAAA"): ["127.0.0.1"]}, Reason.NO_RECORD, id="A in AAAA answer"),
    pytest.param({("x.test", "AAAA"): ["::ffff:7f00:1"]}, Reason.MAPPED_ADDRESS, id="mapped"),
    pytest.param({("x.test", "AAAA"): ["::"]}, Reason.NO_RECORD, id="unspecified"),
]


@ways
@pytest.mark.parametrize(("records", "reason"), DNS)
async def test_a_name_that_dns_gives_no_address_for(
    records: Zone, reason: Reason, way: str, tmp_path: Path
) -> None:
    exit_ = entry("http", 9, host="x.test", family="ipv6")
    tuning = {"egress_dns_timeout_ms": 300}
    async with Nameserver(records) as nameserver:
        async with through(tmp_path, way, exit_, dns=nameserver.port, **tuning) as (mitm, origin):
            body = await refused(mitm, origin, reason, "[ProxyFamily] ")
        assert {kind for _, kind in nameserver.queries} == {"AAAA"}
    assert (body["proxy"], body["family"], body["host"]) == ("exit", "ipv6", "x.test")


@pytest.mark.parametrize(("family", "record"), [("ipv6", "IPv6 (AAAA)"), ("ipv4", "IPv4 (A)")])
async def test_a_missing_record_is_told_in_the_words_of_omniroute(
    family: str, record: str, tmp_path: Path
) -> None:
    other = "A" if family == "ipv6" else "AAAA"
    records = {("x.test", other): [V4 if other == "A" else "::1"]}
    exit_ = entry("http", 9, host="x.test", family=family)
    async with (
        Nameserver(records) as nameserver,
        through(tmp_path, "http", exit_, dns=nameserver.port) as (mitm, origin),
    ):
        body = await refused(mitm, origin, Reason.NO_RECORD)
    assert body["detail"] == (
        f"[ProxyFamily] Proxy host x.test has no {record} record; "
        f"refusing {record.split()[0]}-only egress (fail-closed)"
    )


async def test_target_family_that_cannot_be_had_is_refused_before_the_proxy_is_asked(
    tmp_path: Path,
) -> None:
    async with make("socks5") as proxy, Nameserver({("origin.test", "A"): [V4]}) as nameserver:
        exit_ = entry("socks5", proxy.port, target_family="ipv6")
        async with egress(tmp_path, proxies=[exit_], rules=ALL, dns=nameserver.port) as mitm:
            body = refusal_in(await http_get(mitm.port, "http://origin.test/"))
    assert (body["reason"], body["proxy"]) == (Reason.NO_RECORD, "exit")
    assert proxy.accepted == 0


@types
@pytest.mark.parametrize(("family", "literal"), [("ipv4", V4), ("ipv6", "::1")])
async def test_target_family_asks_the_proxy_for_a_literal_of_it(
    family: str, literal: str, type_: str, tmp_path: Path
) -> None:
    async with (
        dual_stack(Origin()) as origin,
        make(type_) as proxy,
        Nameserver(zone("origin.test")) as nameserver,
    ):
        exit_ = entry(type_, proxy.port, target_family=family)
        async with egress(tmp_path, proxies=[exit_], rules=ALL, dns=nameserver.port) as mitm:
            answer = await http_get(mitm.port, origin.url("origin.test"))
        assert answer.json["headers"]["host"] == f"origin.test:{origin.port}"
        assert {request.host for request in proxy.requests} == {literal}
        assert set(nameserver.queries) == {("origin.test", "A" if family == "ipv4" else "AAAA")}


# --- what the policy itself refuses


UNUSABLE: list[Any] = [
    pytest.param({"rules": [{"use": "refuse"}]}, Reason.RULE, id="a rule"),
    pytest.param({"default": "refuse"}, Reason.DEFAULT, id="the default"),
    pytest.param({"egress_default": "refuse"}, Reason.DEFAULT, id="the option"),
    pytest.param({"rules": [{"use": "off"}]}, Reason.DISABLED, id="inactive"),
    pytest.param({"rules": [{"use": "empty"}]}, Reason.POOL_EMPTY, id="empty pool"),
    pytest.param({"rules": [{"use": "spent"}]}, Reason.POOL_EMPTY, id="pool of inactive ones"),
    pytest.param(
        {"rules": [{"use": "socks"}], "egress_socks5": False},
        Reason.SOCKS5_DISABLED,
        id="socks5 off",
    ),
]


@ways
@pytest.mark.parametrize(("stated", "reason"), UNUSABLE)
async def test_what_a_rule_names_and_cannot_be_used_never_falls_through(
    stated: dict[str, Any], reason: Reason, way: str, tmp_path: Path
) -> None:
    async with (
        origin_for(way != "http") as origin,
        make("socks5") as proxy,
        egress(
            tmp_path,
            proxies=[
                {"name": "off", "host": "127.0.0.1", "port": 9, "status": "inactive"},
                entry("socks5", proxy.port, name="socks"),
            ],
            pools=[{"name": "empty", "members": []}, {"name": "spent", "members": ["off"]}],
            connection_strategy=strategy_of(way),
            **stated,
        ) as mitm,
    ):
        await refused(mitm, origin, reason)
    assert (origin.accepted, proxy.accepted) == (0, 0)


@pytest.mark.parametrize(("strategy", "order"), [("first", "aaaa"), ("round-robin", "abab")])
@pytest.mark.parametrize("way", ["http", "https eager", "https lazy"])
async def test_a_pool_takes_its_members_as_its_strategy_says(
    strategy: str, order: str, way: str, tmp_path: Path
) -> None:
    async with origin_for(way != "http") as origin, make("http") as a, make("socks5") as b:
        proxies = [
            {"name": "off", "host": "127.0.0.1", "port": 9, "status": "inactive"},
            entry("http", a.port, name="a"),
            entry("socks5", b.port, name="b"),
        ]
        pools = [{"name": "all", "members": ["off", "a", "b"], "strategy": strategy}]
        async with egress(
            tmp_path,
            proxies=proxies,
            pools=pools,
            rules=[{"use": "all"}],
            connection_strategy=strategy_of(way),
        ) as mitm:
            for _ in order:
                assert (await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)).status == 200
            flows = await mitm.wait_for_flows(len(order))
    carried = [egress_metadata(flow) for flow in flows]
    assert "".join(metadata["proxy"] for metadata in carried) == order
    assert {metadata["pool"] for metadata in carried} == {"all"}


@pytest.mark.parametrize("way", ["http", "https eager", "https lazy"])
async def test_a_pool_turns_once_though_its_choice_waits_for_dns(way: str, tmp_path: Path) -> None:
    names = ("a.test", "b.test", "c.test")
    async with (
        origin_for(way != "http") as origin,
        make("http") as proxy,
        Nameserver(zone(*names)) as nameserver,
    ):
        proxies = [entry("http", proxy.port, name=n, host=n, family="ipv4") for n in names]
        async with egress(
            tmp_path,
            proxies=proxies,
            pools=[{"name": "all", "members": names}],
            rules=[{"use": "all"}],
            dns=nameserver.port,
            connection_strategy=strategy_of(way),
        ) as mitm:
            for _ in range(6):
                assert (await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)).status == 200
            flows = await mitm.wait_for_flows(6)
    assert [egress_metadata(flow)["proxy"] for flow in flows] == [*names, *names]


# --- what comes after a refusal on the same client connection


@types
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_the_next_request_works_once_the_exit_is_back(
    tls: bool, type_: str, tmp_path: Path
) -> None:
    way = "https lazy" if tls else "http"
    with closed_port() as sock:
        exit_ = entry(type_, sock.getsockname()[1])
        async with make(type_) as proxy, through(tmp_path, way, exit_) as (mitm, origin):
            async with session(mitm.port, origin.url(), mitm.ca_cert) as client:
                for _ in range(2):
                    body = refusal_in(await client.get())
                    assert body["reason"] == Reason.CONNECT_REFUSED
                listening = await asyncio.start_server(proxy._accept, sock=sock)
                assert (await client.get()).status == 200
            listening.close()


@types
async def test_the_next_stream_works_once_the_exit_is_back(type_: str, tmp_path: Path) -> None:
    with closed_port() as sock:
        async with make(type_) as proxy, Http2Origin() as origin:
            proxy.resolve["localhost"] = origin.address
            exit_ = entry(type_, sock.getsockname()[1])
            async with (
                egress(tmp_path, proxies=[exit_], rules=ALL, connection_strategy="lazy") as mitm,
                http2_client(mitm.port, mitm.ca_cert) as client,
            ):
                url = origin.url("localhost")
                for _ in range(2):
                    assert (await client.get(url)).status_code == 503
                listening = await asyncio.start_server(proxy._accept, sock=sock)
                answers = await asyncio.gather(*[client.get(url) for _ in range(5)])
                assert [answer.status_code for answer in answers] == [200] * 5
                await mitm.wait_for_flows(7)
                assert len({flow.client_conn.id for flow in mitm.flows}) == 1
            listening.close()


async def test_streams_beside_a_refused_one_are_not_harmed(tmp_path: Path) -> None:
    rules = [
        {"filter": '~hq "x-exit: dead"', "use": "exit"},
        {"filter": '~hq "x-exit: none"', "use": "refuse"},
        {"use": "direct"},
    ]
    with closed_port() as sock:
        exit_ = entry("http", sock.getsockname()[1])
        async with (
            Http2Origin() as origin,
            egress(tmp_path, proxies=[exit_], rules=rules) as mitm,
            http2_client(mitm.port, mitm.ca_cert) as client,
        ):
            url, exits = origin.url("localhost"), ["dead", "none", "open"] * 4
            await client.get(url)
            answers = await asyncio.gather(
                *[client.get(url, headers={"x-exit": name}) for name in exits]
            )
    statuses = {"dead": 503, "none": 503, "open": 200}
    assert [answer.status_code for answer in answers] == [statuses[name] for name in exits]


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_refused_request_of_any_method_leaves_the_connection_usable(
    tls: bool, method: str, tmp_path: Path
) -> None:
    rules = [{"filter": "!~m GET", "use": "refuse"}, {"use": "direct"}]
    async with (
        Origin(tls=tls_context("http/1.1") if tls else None) as origin,
        egress(tmp_path, rules=rules) as mitm,
        session(mitm.port, origin.url(), mitm.ca_cert) as client,
    ):
        body = b"" if method in ("HEAD", "OPTIONS") else b"text"
        answer = await client.request(method, "/", body=body)
        assert answer.status == 503
        assert (await client.get()).status == 200


@pytest.mark.parametrize("type_", ["http", "https"])
@pytest.mark.parametrize("options", [{}, {"stream_large_bodies": "1"}], ids=["", "streamed"])
async def test_a_forwarding_proxys_407_is_ours_to_answer(
    options: dict[str, Any], type_: str, tmp_path: Path
) -> None:
    async with (
        make(type_, credentials=("alice", "s3cret")) as proxy,
        through(tmp_path, "http", entry(type_, proxy.port), **options) as (mitm, origin),
        session(mitm.port, origin.url()) as client,
    ):
        for _ in range(2):
            answer = await client.get()
            assert refusal_in(answer)["reason"] == Reason.PROXY_AUTH
            assert "proxy-authenticate" not in answer.headers
        assert origin.accepted == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_forwarding_proxys_407_without_a_body_is_ours_to_answer(
    method: str, tmp_path: Path
) -> None:
    bare = Faults(garbage=b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")
    async with (
        make("http", faults=bare) as proxy,
        through(tmp_path, "http", entry("http", proxy.port)) as (mitm, origin),
        session(mitm.port, origin.url()) as client,
    ):
        answer = await client.request(method, "/")
        assert (answer.status, answer.headers["x-egress-error"]) == (503, "PROXY_UNREACHABLE")
        if method == "GET":
            assert refusal_in(answer)["reason"] == Reason.PROXY_AUTH


async def test_an_origins_own_407_is_passed_on(tmp_path: Path) -> None:
    async with Origin() as origin, egress(tmp_path) as mitm:
        answer = await http_get(mitm.port, origin.url(path="/status/407"))
        assert answer.status == 407


async def test_an_error_status_of_a_forwarding_proxy_is_its_answer(tmp_path: Path) -> None:
    """It reports what the proxy found, as an origin's answer would; it says nothing about the
    hop."""
    async with (
        make("http") as proxy,
        egress(tmp_path, proxies=[entry("http", proxy.port)], rules=ALL) as mitm,
    ):
        answer = await http_get(mitm.port, "http://nowhere.test/")
        assert (answer.status, answer.body) == (502, b"no such host\n")


@pytest.mark.parametrize("filter_", ["~bq secret", "~b secret", "!~bq secret", "~m POST & ~bq x"])
async def test_a_rule_on_a_body_that_is_streamed_refuses(filter_: str, tmp_path: Path) -> None:
    """It would be sent before it is complete, and nothing would see it whole."""
    rules = [{"filter": filter_, "use": "refuse"}]
    async with Origin() as origin:
        async with egress(tmp_path, rules=rules, stream_large_bodies="10") as mitm:
            async with session(mitm.port, origin.url()) as client:
                refusal = refusal_in(await client.request("POST", "/", body=b"x" * 1000))
                assert (refusal["reason"], refusal["rule"]) == (Reason.RULE, "#1")
                assert "stream_large_bodies" in refusal["detail"]
            assert (await http_get(mitm.port, origin.url())).status in (200, 503)
        assert all(asked["method"] == "GET" for asked in origin.requests)


async def test_a_rule_on_a_body_that_need_not_be_looked_at_does_not_refuse(tmp_path: Path) -> None:
    rules = [{"filter": "~m PUT & ~bq secret", "use": "refuse"}]
    async with (
        Origin() as origin,
        egress(tmp_path, rules=rules, stream_large_bodies="10") as mitm,
        session(mitm.port, origin.url()) as client,
    ):
        assert (await client.request("POST", "/", body=b"x" * 1000)).status == 200
