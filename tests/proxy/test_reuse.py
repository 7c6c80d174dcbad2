"""Upstream connections: kept while the egress stays the same, never shared between two egresses."""

import asyncio
import gc
import ssl
import weakref
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.certs import authority, client_context
from tests.helpers.clients import http2_client, session, wire
from tests.helpers.lab import V4, egress_metadata
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Http2Origin, Origin, tls_context
from tests.helpers.proxies import HttpProxy, LabProxy, entry, make
from tests.helpers.scene import egress

ONE, TWO = ("alice", "first-secret"), ("bob", "second-secret")
PAIRS = [("http", "http"), ("http", "socks5"), ("socks5", "socks5"), ("https", "http")]

pairs = pytest.mark.parametrize("pair", PAIRS, ids="+".join)


def by_header(*names: str) -> list[dict[str, Any]]:
    """Rules that let a header of the request choose the egress."""
    return [{"filter": f'~hq "x-exit: {name}"', "use": name, "name": name} for name in names]


def leave_by(name: str) -> list[tuple[str, str]]:
    return [("x-exit", name)]


def entry_with_account(name: str, type_: str, proxy: LabProxy, **more: Any) -> dict[str, Any]:
    fields = entry(type_, proxy, name=name, **more)
    if proxy.credentials:
        fields["username"], fields["password"] = proxy.credentials
    return fields


@asynccontextmanager
async def two_exits(
    folder: Path, pair: tuple[str, str], **options: Any
) -> AsyncIterator[tuple[Mitm, LabProxy, LabProxy]]:
    """A mitmproxy with the exits ``one`` and ``two``, each with its own credentials."""
    async with make(pair[0], ONE) as one, make(pair[1], TWO) as two:
        proxies = [entry_with_account("one", pair[0], one), entry_with_account("two", pair[1], two)]
        rules = by_header("one", "two")
        async with egress(
            folder, proxies=proxies, rules=rules, default="refuse", **options
        ) as mitm:
            yield mitm, one, two


@pairs
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_two_egresses_in_turns_on_one_client_connection_share_nothing(
    pair: tuple[str, str], tls: bool, tmp_path: Path
) -> None:
    async with (
        Origin(tls=tls_context("http/1.1") if tls else None) as origin,
        two_exits(tmp_path, pair) as (mitm, one, two),
    ):
        async with session(mitm.port, origin.url(), mitm.ca_cert) as through:
            exits = ["one", "two"] * 5
            answers = [await through.get("/", leave_by(name)) for name in exits]
        flows = await mitm.wait_for_flows(10)
        used = {name: set[int]() for name in exits}
        for name, answer in zip(exits, answers, strict=True):
            used[name].add(answer.json["connection"])
    assert used["one"].isdisjoint(used["two"])
    assert [egress_metadata(flow)["proxy"] for flow in flows] == exits
    assert [egress_metadata(flow)["reused"] for flow in flows] == [False] * 2 + [True] * 8
    assert (one.accepted, two.accepted) == (1, 1)
    assert {asked.credentials for asked in one.requests} == {ONE}
    assert {asked.credentials for asked in two.requests} == {TWO}


@pairs
async def test_twenty_concurrent_streams_over_two_egresses_share_nothing(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    async with (
        Http2Origin() as origin,
        two_exits(tmp_path, pair) as (mitm, one, two),
        http2_client(mitm.port, mitm.ca_cert) as client,
    ):
        first = await client.get(origin.url(), headers=leave_by("one"))
        assert first.http_version == "HTTP/2"
        exits = ["one", "two"] * 10
        answers = await asyncio.gather(
            *[client.get(origin.url(), headers=leave_by(name)) for name in exits]
        )
        flows = await mitm.wait_for_flows(21)
        assert len({flow.client_conn.id for flow in flows}) == 1
    used = Counter((name, a.json()["connection"]) for name, a in zip(exits, answers, strict=True))
    assert sorted(used.values()) == [10, 10]
    assert {name for name, _ in used} == {"one", "two"}
    assert len({connection for _, connection in used}) == 2
    assert (one.accepted, two.accepted) == (1, 1)


async def test_streams_to_an_http1_origin_have_connections_of_their_own(tmp_path: Path) -> None:
    async with (
        Origin(tls=tls_context("http/1.1")) as origin,
        two_exits(tmp_path, ("http", "socks5")) as (mitm, one, two),
        http2_client(mitm.port, mitm.ca_cert) as client,
    ):
        exits = ["one", "two"] * 10
        answers = await asyncio.gather(
            *[client.get(origin.url(), headers=leave_by(name)) for name in exits]
        )
    used: dict[str, set[int]] = {"one": set(), "two": set()}
    for name, answer in zip(exits, answers, strict=True):
        used[name].add(answer.json()["connection"])
    assert used["one"].isdisjoint(used["two"])
    assert [len(proxy.requests) for proxy in (one, two)] == [len(used["one"]), len(used["two"])]


async def test_direct_and_pinned_direct_and_a_proxy_share_nothing(tmp_path: Path) -> None:
    rules = by_header("exit", "direct")
    rules += [{"filter": '~hq "x-exit: pinned"', "use": "direct", "family": "ipv4"}]
    async with (
        Origin(tls=tls_context("http/1.1")) as origin,
        make("socks5") as proxy,
        egress(
            tmp_path, proxies=[entry_with_account("exit", "socks5", proxy)], rules=rules
        ) as mitm,
        session(mitm.port, origin.url(), mitm.ca_cert) as through,
    ):
        names = ["exit", "direct", "pinned"] * 3
        answers = [(await through.get("/", leave_by(name))).json for name in names]
    used = {(name, answer["connection"]) for name, answer in zip(names, answers, strict=True)}
    assert len(used) == len({connection for _, connection in used}) == 3


async def test_two_revisions_of_one_proxy_share_nothing(tmp_path: Path) -> None:
    """The same host and port with other credentials is another egress."""
    async with Origin() as origin, make("http") as proxy:
        stated = entry_with_account("one", "http", proxy)
        proxies = [
            stated | {"username": "u", "password": "1"},
            stated | {"name": "two", "username": "u", "password": "2"},
        ]
        async with (
            egress(tmp_path, proxies=proxies, rules=by_header("one", "two")) as mitm,
            session(mitm.port, origin.url()) as through,
        ):
            for name in ["one", "two"] * 3:
                await through.get("/", leave_by(name))
    assert proxy.accepted == 2
    asked = [request.credentials for request in proxy.requests]
    assert asked == [("u", "1"), ("u", "2")] * 3


KEPT: list[tuple[str, str, dict[str, str]]] = [
    ("http", "http", {}),
    ("http", "http", {"plain_http": "connect"}),
    ("https", "http", {}),
    ("socks5", "http", {}),
    *(
        (type_, way, {})
        for type_ in ("http", "https", "socks5")
        for way in ("https eager", "https lazy")
    ),
]


@pytest.mark.parametrize(("type_", "way", "more"), KEPT)
async def test_a_hundred_requests_on_one_egress_make_one_dial(
    type_: str, way: str, more: dict[str, Any], tmp_path: Path
) -> None:
    scheme, _, strategy = way.partition(" ")
    async with (
        Origin(tls=tls_context("http/1.1") if scheme == "https" else None) as origin,
        make(type_, ONE) as proxy,
    ):
        proxies = [entry_with_account("exit", type_, proxy, **more)]
        rules = [{"use": "exit"}]
        options: dict[str, Any] = {"connection_strategy": strategy or "eager"}
        async with (
            egress(tmp_path, proxies=proxies, rules=rules, **options) as mitm,
            session(mitm.port, origin.url(), mitm.ca_cert) as through,
        ):
            for number in range(100):
                assert (await through.get(f"/{number}")).status == 200
            await mitm.wait_for_flows(100)
            reused = Counter(egress_metadata(flow)["reused"] for flow in mitm.flows)
    assert proxy.accepted == 1
    assert reused == {False: 1, True: 99}


@pytest.mark.parametrize("type_", ["http", "socks5"])
async def test_one_client_connection_may_have_many_targets_through_one_exit(
    type_: str, tmp_path: Path
) -> None:
    """mitmproxy limits connections to an address to five; here the target counts."""
    names = [f"host{number}.test" for number in range(8)]
    async with Origin() as origin:
        there = dict.fromkeys(names, origin.address)
        async with make(type_, resolve=there) as proxy:
            exits = [entry_with_account("exit", type_, proxy)]
            async with (
                egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm,
                wire(mitm.port) as client,
            ):
                for name in names * 2:
                    answer = await client.request("GET", f"http://{name}/", name)
                    assert answer.json["headers"]["host"] == name
    assert proxy.accepted == len(names)


@pytest.mark.parametrize("family", ["auto", "ipv4"])
@pytest.mark.parametrize("strategy", ["eager", "lazy"])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_hundred_direct_requests_make_one_dial(
    tls: bool, strategy: str, family: str, tmp_path: Path
) -> None:
    rules = [{"use": "direct", "family": family}]
    async with (
        Origin(tls=tls_context("http/1.1") if tls else None) as origin,
        egress(tmp_path, rules=rules, connection_strategy=strategy) as mitm,
        session(mitm.port, origin.url(), mitm.ca_cert) as through,
    ):
        for number in range(100):
            assert (await through.get(f"/{number}")).status == 200
        assert origin.accepted == 1


class Hangup(Origin):
    """Ends each connection in the middle of the TLS handshake."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)


def without_tls(fault: str) -> Origin:
    if fault == "hangs up":
        return Hangup()
    return Origin(tls=authority("nobody trusts").server_context("origin.test", V4))


@asynccontextmanager
async def by_mode(mitm: Mitm, mode: str, origin: Origin) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP/2 client that asks for ``/`` of the origin through the mode."""
    base = f"https://{V4}:{mitm.port if mode == 'reverse' else origin.port}"
    if mode == "regular":
        async with http2_client(mitm.port, mitm.ca_cert) as client:
            client.base_url = httpx.URL(base)
            yield client
    else:
        verify = client_context(mitm.ca_cert)
        async with httpx.AsyncClient(http2=True, verify=verify, base_url=base) as client:
            yield client


@pytest.mark.parametrize(
    ("strategy", "mode", "fault"),
    [
        ("eager", "regular", "hangs up"),
        ("eager", "regular", "has a bad certificate"),
        ("eager", "reverse", "has a bad certificate"),
        ("lazy", "regular", "hangs up"),
    ],
)
async def test_an_origin_whose_tls_fails_is_dialled_as_often_as_without_the_addon(
    strategy: str, mode: str, fault: str, tmp_path: Path
) -> None:
    """Three requests on one client connection. A proxy that a pool has chosen is kept."""
    pool = [{"name": "exits", "members": ["one", "two"], "strategy": "round-robin"}]
    policies: list[dict[str, Any]] = [
        {"default": "direct"},
        {"rules": [{"use": "direct", "family": "ipv4"}]},
        {"rules": [{"use": "one"}]},
    ]
    if strategy == "eager":  # otherwise each flow picks a member, which dials for itself
        policies.append({"rules": [{"use": "exits"}], "pools": pool})
    dials = []
    async with without_tls(fault) as origin, make("http") as one, make("http") as two:
        proxies = [entry_with_account("one", "http", one), entry_with_account("two", "http", two)]
        modes = [f"reverse:https://{V4}:{origin.port}" if mode == "reverse" else mode]
        options: dict[str, Any] = {"mode": modes, "connection_strategy": strategy}
        stock = Mitm(tmp_path / "stock", **options)
        ours = [egress(tmp_path, **policy, proxies=proxies, **options) for policy in policies]
        for mitm in (stock, *ours):
            before = origin.accepted
            async with mitm, by_mode(mitm, mode, origin) as client:
                for _ in range(3):
                    with suppress(httpx.HTTPError):  # mitmproxy may close instead of a 502
                        assert (await client.get("/")).status_code == 502
            dials.append(origin.accepted - before)
    assert dials[0] > 0
    assert dials == dials[:1] * len(dials)


@pytest.mark.parametrize("tls", [None, tls_context("http/1.1")], ids=["http", "https"])
async def test_the_last_flow_of_a_connection_does_not_keep_the_first(
    tls: ssl.SSLContext | None, tmp_path: Path
) -> None:
    async with Origin(tls=tls) as origin, HttpProxy() as proxy:
        exits = [entry_with_account("exit", "http", proxy)]
        async with egress(tmp_path, proxies=exits, rules=[{"use": "exit"}]) as mitm:
            async with session(mitm.port, origin.url(), mitm.ca_cert) as client:
                await client.get()
                await client.get()
            flows = await mitm.wait_for_flows(2)
            first = weakref.ref(flows.pop(0))
            await mitm.until(lambda: not mitm.clients)
            gc.collect()
            assert first() is None
            assert len(flows) == proxy.accepted == 1
