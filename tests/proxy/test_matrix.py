"""Every kind of egress, directive, target and strategy, live and replayed: the right hop, or the
right refusal.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from egress_policy.errors import Reason
from tests.helpers.clients import ConnectRefused, Response, connect, http_get
from tests.helpers.lab import (
    V4,
    V6,
    DualWebSocketOrigin,
    WebSocket,
    dual_stack,
    egress_metadata,
    refusal_in,
    request_to,
    save_flows,
    tls_for,
    upgrade,
    zone,
)
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.proxies import HttpProxy, LabProxy, Socks5Proxy
from tests.helpers.scene import egress
from tests.helpers.server import LabServer

Type = Literal["http", "https", "socks5", "direct"]
Kind = Literal["http", "https", "websocket", "tcp"]
Family = Literal["auto", "ipv4", "ipv6"]

TYPES: tuple[Type, ...] = ("http", "https", "socks5", "direct")
KINDS: tuple[Kind, ...] = ("http", "https", "websocket", "tcp")
HTTP_KINDS: tuple[Kind, ...] = ("http", "https")
FAMILIES: tuple[Family, ...] = ("auto", "ipv4", "ipv6")
CREDENTIALS = ("alice", "s3cret")

strategies = pytest.mark.parametrize("strategy", ["eager", "lazy"])
types = pytest.mark.parametrize("type_", TYPES)


class MatrixLab:
    """An egress of a type for each directive, and a target of a kind that distinguishes them.

    Every directive has its own target name; a direct ``auto`` needs one that the system knows.
    """

    def __init__(self, type_: Type, kind: Kind) -> None:
        self.type = type_
        self.kind = kind
        self.origin = _origin(kind)
        self.hop: LabServer | DualWebSocketOrigin = self.origin
        names = [self.name(family) for family in FAMILIES]
        self.nameserver = Nameserver(zone("proxy.test", *names))

    def name(self, family: Family) -> str:
        system = self.type == "direct" and family == "auto"
        return "localhost" if system else f"{family}.origin.test"

    def authority(self, family: Family) -> str:
        return f"{self.name(family)}:{self.origin.port}"

    @asynccontextmanager
    async def mitm(self, folder: Path, strategy: str, **options: Any) -> AsyncIterator[Mitm]:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            await enter(self.nameserver)
            await enter(_dual(self.origin))
            if self.type != "direct":
                self.hop = await enter(dual_stack(self._proxy()))
            yield await enter(
                egress(
                    folder,
                    proxies=self._proxies(),
                    rules=[
                        {"hosts": [self.name(f)], "name": f"for {f}", **self._use(f)}
                        for f in FAMILIES
                    ],
                    default="refuse",
                    dns=self.nameserver.port,
                    connection_strategy=strategy,
                    **options,
                )
            )

    def _proxy(self) -> LabProxy:
        make = Socks5Proxy if self.type == "socks5" else HttpProxy
        tls = tls_for("proxy.test") if self.type == "https" else None
        there = {self.name(family): (V4, self.origin.port) for family in FAMILIES}
        return make(credentials=CREDENTIALS, tls=tls, resolve=there)

    def _proxies(self) -> list[dict[str, Any]]:
        if self.type == "direct":
            return []
        username, password = CREDENTIALS
        common: dict[str, Any] = {"type": self.type, "port": self.hop.port}
        common |= {"username": username, "password": password}
        hosts = {"auto": "localhost", "ipv4": "proxy.test", "ipv6": "proxy.test"}
        return [{"name": f, "family": f, "host": hosts[f], **common} for f in FAMILIES]

    def _use(self, family: Family) -> dict[str, str]:
        return {"use": "direct", "family": family} if self.type == "direct" else {"use": family}

    async def talk(self, mitm: Mitm, family: Family) -> str:
        """Reach the target and return a word of its answer."""
        if self.kind in HTTP_KINDS:
            scheme = "http" if self.kind == "http" else "https"
            url = f"{scheme}://{self.authority(family)}/{family}"
            answer = await http_get(mitm.port, url, ca=mitm.ca_cert)
            return str(answer.json.get("path", answer.json))
        async with connect(mitm.port, self.name(family), self.origin.port) as tunnel:
            if self.kind == "tcp":
                await tunnel.send(b"\x00")
                return "raw" if await tunnel.receive(1) == b"\x00" else ""
            answer = await upgrade(tunnel, "/", self.authority(family))
            assert answer.status == 101, answer
            return await WebSocket(tunnel).echo("framed")

    def check(self, carried: dict[Family, dict[str, Any]]) -> None:
        """The record of the flows, the connections at the hops, and the DNS questions."""
        for family, metadata in carried.items():
            proxy = {} if self.type == "direct" else {"proxy": family}
            pinned = family != "auto"
            peer = family if pinned else metadata["peer_family"]
            address = {"ipv4": V4, "ipv6": V6}[peer]
            dns = {"dns_ttl": 60.0} if pinned else {}
            if pinned or proxy:  # a target without a family is mitmproxy's to resolve
                dns["dns_ms"] = metadata["dns_ms"]
            times = {"connect_ms", "handshake_ms"} if proxy else {"connect_ms"}
            assert all(0 <= metadata[one] < 5000 for one in times)
            assert metadata == {
                "rule": f"for {family}",
                "use": self._use(family)["use"] if self.type == "direct" else "proxy",
                **proxy,
                "family": family,
                "address": address,
                "port": self.hop.port,
                "peer_family": peer,
                **dns,
                **{one: metadata[one] for one in times},
                "reused": False,
            }
        peers = [4 if one["peer_family"] == "ipv4" else 6 for one in carried.values()]
        assert self.hop.families == peers
        if isinstance(self.hop, LabProxy):
            assert [asked.family for asked in self.hop.requests] == peers
            assert self.hop.targets == [self.authority(f) for f in FAMILIES]
            assert {asked.credentials for asked in self.hop.requests} == {CREDENTIALS}
        names = {f: "proxy.test" if self.type != "direct" else self.name(f) for f in FAMILIES}
        assert dict(self.nameserver.queries) == {
            (names["ipv4"], "A"): 1,
            (names["ipv6"], "AAAA"): 1,
        }

    def check_forwarding(self) -> None:
        """Plain HTTP goes to an HTTP proxy in absolute form, everything else by CONNECT."""
        if self.type in ("http", "https") and isinstance(self.hop, LabProxy):
            method = "GET" if self.kind == "http" else "CONNECT"
            assert {asked.line.split()[0] for asked in self.hop.requests} == {method}


def _origin(kind: Kind) -> LabServer | DualWebSocketOrigin:
    if kind == "websocket":
        return DualWebSocketOrigin()
    if kind == "tcp":
        return TcpEcho()
    return Origin(tls=tls_for("*.origin.test") if kind == "https" else None)


@asynccontextmanager
async def _dual(server: LabServer | DualWebSocketOrigin) -> AsyncIterator[None]:
    async with server if isinstance(server, DualWebSocketOrigin) else dual_stack(server):
        yield


@strategies
@pytest.mark.parametrize("kind", KINDS)
@types
async def test_a_live_flow_takes_the_egress_and_family_of_its_rule(
    type_: Type, kind: Kind, strategy: str, tmp_path: Path
) -> None:
    lab = MatrixLab(type_, kind)
    heard: dict[Family, str] = {}
    carried: dict[Family, dict[str, Any]] = {}
    async with lab.mitm(tmp_path, strategy) as mitm:
        for number, family in enumerate(FAMILIES, 1):
            heard[family] = await lab.talk(mitm, family)
            flow = (await mitm.wait_for_flows(number))[-1]
            carried[family] = egress_metadata(flow)
    said = {"tcp": "raw", "websocket": "framed"}
    assert heard == {family: said.get(kind, f"/{family}") for family in FAMILIES}
    lab.check(carried)
    lab.check_forwarding()


@strategies
@pytest.mark.parametrize("way", ["-C", "replay.client"])
@pytest.mark.parametrize("kind", HTTP_KINDS)
@types
async def test_a_replayed_flow_takes_the_egress_and_family_of_its_rule(
    type_: Type, kind: Kind, way: str, strategy: str, tmp_path: Path
) -> None:
    lab = MatrixLab(type_, kind)
    file = tmp_path / "flows"
    async with lab.mitm(tmp_path, strategy) as mitm:
        flows = [request_to(f"{kind}://{lab.authority(f)}/{f}") for f in FAMILIES]
        if way == "-C":
            mitm.options.update(client_replay=[str(save_flows(file, flows))])
        else:
            mitm.master.commands.call("replay.client", flows)
        await mitm.wait_for_flows(3)
        replayed = mitm.http_flows
    bodies = [json.loads(flow.response.content or b"{}") for flow in replayed if flow.response]
    assert [body["path"] for body in bodies] == [f"/{f}" for f in FAMILIES]
    lab.check({f: egress_metadata(flow) for f, flow in zip(FAMILIES, replayed, strict=True)})
    lab.check_forwarding()
    assert all(flow.server_conn.via is None for flow in replayed)


NO_AAAA = {("hop.test", "A"): [V4]}
NO_A = {("hop.test", "AAAA"): [V6]}
MAPPED = {("hop.test", "AAAA"): ["::ffff:127.0.0.1"]}

PROXY_REFUSALS = [
    pytest.param("ipv6", NO_AAAA, Reason.NO_RECORD, id="no-AAAA"),
    pytest.param("ipv4", NO_A, Reason.NO_RECORD, id="no-A"),
    pytest.param("ipv6", MAPPED, Reason.MAPPED_ADDRESS, id="mapped-AAAA"),
    pytest.param("ipv6", {}, Reason.DNS_FAILURE, id="NXDOMAIN"),
]
DIRECT_REFUSALS = [
    pytest.param("ipv6", "hop.test", NO_AAAA, Reason.NO_RECORD, id="no-AAAA"),
    pytest.param("ipv4", "hop.test", NO_A, Reason.NO_RECORD, id="no-A"),
    pytest.param("ipv6", "hop.test", MAPPED, Reason.MAPPED_ADDRESS, id="mapped-AAAA"),
    pytest.param("ipv6", V4, {}, Reason.LITERAL_CONTRADICTION, id="ipv4-literal"),
    pytest.param("ipv4", V6, {}, Reason.LITERAL_CONTRADICTION, id="ipv6-literal"),
    pytest.param("ipv6", "::ffff:127.0.0.1", {}, Reason.LITERAL_CONTRADICTION, id="mapped-literal"),
]


async def _attempt(mitm: Mitm, kind: Kind, host: str, port: int) -> Response | None:
    """The answer to an attempt, ``None`` for a closed connection."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if kind in HTTP_KINDS:
        return await http_get(mitm.port, f"{kind}://{authority}/", ca=mitm.ca_cert)
    try:
        async with connect(mitm.port, host, port) as tunnel:
            if kind == "websocket":
                return await upgrade(tunnel, "/", authority)
            await tunnel.send(b"\x00raw")
            assert await tunnel.closed() == b""
            return None
    except ConnectRefused as refused:
        return refused.answer


async def _check_refused(
    mitm: Mitm, kind: Kind, host: str, port: int, strategy: str, reason: Reason
) -> dict[str, Any]:
    """Attempt, and check the answer, the flow and the log. Returns the answer's body, empty for raw
    TCP."""
    answer = await _attempt(mitm, kind, host, port)
    at_connect = strategy == "eager" and kind != "http"
    (flow,) = mitm.connects if at_connect else await mitm.wait_for_flows(1)
    metadata = egress_metadata(flow)
    assert metadata["code"] == reason.code
    assert metadata["reason"] == reason
    assert (answer is None) == (kind == "tcp" and not at_connect)
    if answer is None:
        await mitm.wait_for_log(f"{reason.code} {reason}")
        return {}
    body = refusal_in(answer)
    assert (body["reason"], body["flow_id"]) == (reason, flow.id)
    return body


@strategies
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
@pytest.mark.parametrize(("family", "records", "reason"), PROXY_REFUSALS)
async def test_a_proxy_that_lacks_the_family_is_refused_and_nothing_dialled(
    type_: Type,
    kind: Kind,
    family: str,
    records: dict[tuple[str, str], list[str]],
    reason: Reason,
    strategy: str,
    tmp_path: Path,
) -> None:
    make = Socks5Proxy if type_ == "socks5" else HttpProxy
    tls = tls_for("hop.test") if type_ == "https" else None
    async with dual_stack(make(tls=tls)) as proxy, Nameserver(records) as nameserver:
        exit_ = {"name": "exit", "type": type_, "host": "hop.test", "port": proxy.port}
        async with egress(
            tmp_path,
            proxies=[exit_ | {"family": family, "username": "u", "password": "s3cret"}],
            rules=[{"name": "all", "use": "exit"}],
            dns=nameserver.port,
            connection_strategy=strategy,
        ) as mitm:
            body = await _check_refused(mitm, kind, "origin.test", 9, strategy, reason)
        record = "AAAA" if family == "ipv6" else "A"
        assert set(nameserver.queries) == {("hop.test", record)}
    assert proxy.accepted == 0
    assert "s3cret" not in str(body) + mitm.text
    if body:
        stated = {key: body[key] for key in ("proxy", "family", "host", "rule")}
        assert stated == {"proxy": "exit", "family": family, "host": "hop.test", "rule": "all"}


@strategies
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "host", "records", "reason"), DIRECT_REFUSALS)
async def test_a_direct_target_that_lacks_the_family_is_refused_and_nothing_dialled(
    kind: Kind,
    family: str,
    host: str,
    records: dict[tuple[str, str], list[str]],
    reason: Reason,
    strategy: str,
    tmp_path: Path,
) -> None:
    async with dual_stack(TcpEcho()) as origin, Nameserver(records) as nameserver:
        async with egress(
            tmp_path,
            rules=[{"name": "all", "use": "direct", "family": family}],
            dns=nameserver.port,
            connection_strategy=strategy,
        ) as mitm:
            await _check_refused(mitm, kind, host, origin.port, strategy, reason)
        record = "AAAA" if family == "ipv6" else "A"
        assert set(nameserver.queries) <= {("hop.test", record)}
    assert origin.accepted == 0
