"""Flows that other addons answer, rewrite, hold or kill, and policies that change meanwhile."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import http

from egress_policy.errors import Reason
from tests.helpers.client_paths import origin_for
from tests.helpers.clients import ConnectRefused, connect, http2_client, http_get, session, wire
from tests.helpers.lab import V4, egress_metadata, refusal_in
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver, Reply
from tests.helpers.origin import Http2Origin, Origin, TcpEcho
from tests.helpers.proxies import Faults, HttpProxy, Socks5Proxy, entry
from tests.helpers.scene import egress, reload_policy, write_policy
from tests.helpers.server import LabServer

schemes = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
ways = pytest.mark.parametrize("way", ["http", "https eager", "https lazy"])


# --- answered by somebody else: no look-up, no dial, no 503


class Answers:
    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.answer)

    def answer(self, flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(418, b"from an addon")


ANSWERS: list[Any] = [
    pytest.param({"map_local": ["|//origin.test/|FILE"]}, 200, id="map_local"),
    pytest.param({"block_list": ["/~d origin.test/404"]}, 404, id="block_list"),
    pytest.param("request", 418, id="request"),
    pytest.param("requestheaders", 418, id="requestheaders"),
]


@pytest.mark.parametrize(("by", "status"), ANSWERS)
@pytest.mark.parametrize("policy", ["exit", "refuse"])
@schemes
async def test_flows_that_others_answer_cause_no_look_up_dial_or_refusal(
    tls: bool, policy: str, by: Any, status: int, tmp_path: Path
) -> None:
    (tmp_path / "local").write_text("from a file")
    options: dict[str, Any] = {} if isinstance(by, str) else dict(by)
    if "map_local" in options:
        options["map_local"] = [f"|//origin.test|{tmp_path / 'local'}"]
    async with Nameserver({}) as nameserver, HttpProxy() as proxy:
        async with egress(
            tmp_path,
            proxies=[entry("http", proxy, host="proxy.test", family="ipv4")],
            rules=[{"use": policy}],
            dns=nameserver.port,
            connection_strategy="lazy",
            **options,
        ) as mitm:
            if isinstance(by, str):
                mitm.master.addons.add(Answers(by))
            url = f"{'https' if tls else 'http'}://origin.test/x"
            answer = await http_get(mitm.port, url, ca=mitm.ca_cert)
            (flow,) = await mitm.wait_for_flows(1)
        assert answer.status == status
        assert egress_metadata(flow) == {}
        assert not nameserver.queries
    assert proxy.accepted == 0


@pytest.mark.parametrize("strategy", ["eager", "lazy"])
async def test_a_connect_that_another_addon_answers_is_left_alone(
    strategy: str, tmp_path: Path
) -> None:
    async with (
        Nameserver({}) as nameserver,
        egress(
            tmp_path,
            rules=[{"use": "direct", "family": "ipv4"}],
            dns=nameserver.port,
            connection_strategy=strategy,
        ) as mitm,
    ):
        mitm.master.addons.add(Answers("http_connect"))
        with pytest.raises(ConnectRefused) as refused:
            async with connect(mitm.port, "origin.test", 443):
                pass
        assert refused.value.answer.status == 418
        assert not nameserver.queries


# --- rewritten: decided for what the request became


RULES: list[dict[str, Any]] = [
    {"hosts": ["origin.test"], "use": "exit"},
    {"hosts": ["127.0.0.1"], "use": "direct"},
    {"use": "refuse"},
]


class Rewrites:
    def __init__(self, host: str, hook: str) -> None:
        self.host = host
        setattr(self, hook, self.rewrite)

    def rewrite(self, flow: http.HTTPFlow) -> None:
        flow.request.host = self.host


@asynccontextmanager
async def two_ways_out(
    folder: Path, tls: bool, **options: Any
) -> AsyncIterator[tuple[Mitm, Origin, Socks5Proxy]]:
    """``origin.test`` takes the exit, ``127.0.0.1`` leaves directly, everything else is refused."""
    async with origin_for(tls) as origin, Socks5Proxy() as proxy:
        proxy.resolve["origin.test"] = origin.address
        exits = [entry("socks5", proxy)]
        async with egress(folder, proxies=exits, rules=RULES, **options) as mitm:
            yield mitm, origin, proxy


@schemes
@pytest.mark.parametrize("hook", ["requestheaders", "request"])
@pytest.mark.parametrize("strategy", ["eager", "lazy"])
async def test_a_request_that_an_addon_sends_elsewhere_is_decided_for_there(
    strategy: str, hook: str, tls: bool, tmp_path: Path
) -> None:
    async with two_ways_out(tmp_path, tls, connection_strategy=strategy) as (mitm, origin, proxy):
        mitm.master.addons.add(Rewrites("origin.test", hook))
        async with session(mitm.port, origin.url(), mitm.ca_cert) as client:
            assert [(await client.get()).status for _ in range(3)] == [200] * 3
        flows = await mitm.wait_for_flows(3)
        assert [egress_metadata(flow)["proxy"] for flow in flows] == ["exit"] * 3
        assert (proxy.accepted, set(proxy.targets)) == (1, {f"origin.test:{origin.port}"})


class SetsPort:
    def request(self, flow: http.HTTPFlow) -> None:
        flow.request.port = 65536


async def test_a_port_that_an_addon_sets_out_of_range_is_refused(tmp_path: Path) -> None:
    async with egress(tmp_path, default="direct") as mitm:
        mitm.master.addons.add(SetsPort())
        refusal = refusal_in(await http_get(mitm.port, "http://127.0.0.1/"))
    assert refusal["reason"] == Reason.CONNECT_REFUSED


@ways
async def test_map_remote_is_decided_for_the_final_url(way: str, tmp_path: Path) -> None:
    tls = way != "http"
    options: dict[str, Any] = {
        "connection_strategy": "lazy" if "lazy" in way else "eager",
        "map_remote": ["|//127.0.0.1:|//origin.test:"],
    }
    async with two_ways_out(tmp_path, tls, **options) as (mitm, origin, _):
        answer = await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
        (flow,) = await mitm.wait_for_flows(1)
        assert (answer.status, egress_metadata(flow)["proxy"]) == (200, "exit")
        mitm.options.update(map_remote=["|//127.0.0.1:|//elsewhere.test:"])
        refusal_in(await http_get(mitm.port, origin.url(), ca=mitm.ca_cert))


@ways
async def test_a_filter_on_the_destination_sees_where_map_remote_leads(
    way: str, tmp_path: Path
) -> None:
    async with origin_for(way != "http") as origin:
        async with egress(
            tmp_path,
            rules=[{"filter": r"~dst ^origin\.test:", "use": "refuse"}],
            default="direct",
            connection_strategy="lazy" if "lazy" in way else "eager",
            map_remote=["|//127.0.0.1:|//Origin.Test.:"],
        ) as mitm:
            refusal = refusal_in(await http_get(mitm.port, origin.url(), ca=mitm.ca_cert))
        assert (refusal["reason"], origin.requests) == (Reason.RULE, [])


@ways
async def test_a_streamed_request_is_decided_for_what_requestheaders_made_of_it(
    way: str, tmp_path: Path
) -> None:
    strategy = "lazy" if "lazy" in way else "eager"
    options = {"stream_large_bodies": "10", "connection_strategy": strategy}
    async with two_ways_out(tmp_path, way != "http", **options) as (mitm, origin, proxy):
        mitm.master.addons.add(Rewrites("origin.test", "requestheaders"))
        async with session(mitm.port, origin.url(), mitm.ca_cert) as client:
            answer = await client.request("POST", "/", body=b"x" * 1000)
        assert answer.status == 200
        assert proxy.targets == [f"origin.test:{origin.port}"]


# --- held


class Holds:
    """Intercepts the first request, as a user does."""

    def __init__(self) -> None:
        self.held: asyncio.Future[http.HTTPFlow] = asyncio.get_running_loop().create_future()

    def request(self, flow: http.HTTPFlow) -> None:
        flow.intercept()
        self.held.set_result(flow)


@asynccontextmanager
async def held_request(
    mitm: Mitm, url: str
) -> AsyncIterator[tuple[http.HTTPFlow, asyncio.Task[Any]]]:
    """An intercepted flow, and the client's wait for its answer."""
    holds = Holds()
    mitm.master.addons.add(holds)
    waiting = asyncio.create_task(http_get(mitm.port, url, ca=mitm.ca_cert))
    yield await holds.held, waiting
    await asyncio.wait([waiting])


@ways
@pytest.mark.parametrize(("host", "outcome"), [("origin.test", "exit"), ("other.test", "refused")])
async def test_a_flow_edited_while_it_is_held_is_decided_for_what_it_became(
    host: str, outcome: str, way: str, tmp_path: Path
) -> None:
    strategy = "lazy" if "lazy" in way else "eager"
    options = {"connection_strategy": strategy}
    async with two_ways_out(tmp_path, way != "http", **options) as (mitm, origin, proxy):
        async with held_request(mitm, origin.url()) as (flow, waiting):
            dialled = origin.accepted  # eager connects before there is a request
            flow.request.host = host
            flow.resume()
            answer = await waiting
        if outcome == "refused":
            assert refusal_in(answer)["reason"] == "rule"
            assert origin.accepted == dialled
        else:
            assert answer.status == 200
            assert egress_metadata(flow)["proxy"] == "exit"
        assert proxy.accepted == (outcome == "exit")


@schemes
async def test_a_flow_that_is_killed_while_it_is_held_is_not_sent(
    tls: bool, tmp_path: Path
) -> None:
    async with two_ways_out(tmp_path, tls, connection_strategy="lazy") as (mitm, origin, _):
        async with held_request(mitm, origin.url()) as (flow, waiting):
            flow.resume()
            flow.kill()  # before what waits for it goes on
        assert isinstance(waiting.exception(), OSError | EOFError)
        await mitm.wait_for_flows(1)
        assert egress_metadata(flow) == {}
        assert origin.accepted == 0


@schemes
async def test_the_policy_in_force_when_a_held_flow_goes_on_decides(
    tls: bool, tmp_path: Path
) -> None:
    async with two_ways_out(tmp_path, tls, connection_strategy="lazy") as (mitm, origin, _):
        async with held_request(mitm, origin.url()) as (flow, waiting):
            write_policy(tmp_path / "policy.yaml", default="refuse")
            await reload_policy()
            flow.resume()
            assert refusal_in(await waiting)["reason"] == Reason.DEFAULT
        assert origin.accepted == 0


# --- gone while a question is open


@pytest.mark.parametrize("way", ["http", "https lazy", "CONNECT"])
async def test_a_client_that_goes_during_the_look_up_causes_no_dial(
    way: str, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    there = {("proxy.test", "A"): Reply([V4], gate=gate)}
    async with Socks5Proxy() as proxy, Nameserver(there) as nameserver:
        exit_ = entry("socks5", proxy, host="proxy.test", family="ipv4")
        strategy = "lazy" if "lazy" in way else "eager"
        async with egress(
            tmp_path,
            proxies=[exit_],
            rules=[{"use": "exit"}],
            dns=nameserver.port,
            connection_strategy=strategy,
        ) as mitm:
            async with wire(mitm.port) as client:
                if way == "http":
                    await client.send(b"GET http://origin.test/ HTTP/1.1\r\nhost: o\r\n\r\n")
                else:
                    await client.send(b"CONNECT origin.test:443 HTTP/1.1\r\n\r\n")
                if way == "https lazy":
                    await client.receive(len(b"HTTP/1.1 200 Connection established\r\n\r\n"))
                    await client.start_tls(mitm.ca_cert, "origin.test")
                    await client.send(b"GET / HTTP/1.1\r\nhost: o\r\n\r\n")
                await nameserver.arrived.wait()
            await mitm.until(lambda: not mitm.clients)
            gate.set()
            again = await http_get(mitm.port, "http://origin.test/")  # the answer is known now
            assert again.status == 503
        assert proxy.accepted == 1


@ways
async def test_an_exit_that_is_edited_during_its_look_up_is_not_dialled_as_it_was(
    way: str, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    there = {("proxy.test", "A"): Reply([V4], gate=gate)}
    async with (
        origin_for(way != "http") as origin,
        Socks5Proxy() as proxy,
        Nameserver(there) as nameserver,
    ):
        exit_ = entry("socks5", proxy, host="proxy.test", family="ipv4")
        rules = [{"use": "exit"}]
        async with egress(
            tmp_path,
            proxies=[exit_],
            rules=rules,
            dns=nameserver.port,
            connection_strategy="lazy" if "lazy" in way else "eager",
        ) as mitm:
            waiting = asyncio.create_task(http_get(mitm.port, origin.url(), ca=mitm.ca_cert))
            await nameserver.arrived.wait()
            edited = exit_ | {"username": "new", "password": "new"}
            write_policy(tmp_path / "policy.yaml", proxies=[edited], rules=rules)
            await reload_policy()
            proxy.credentials = ("new", "new")
            gate.set()
            answer = await waiting
            if "eager" in way:  # a connection that was asked for by itself
                assert refusal_in(answer)["reason"] == Reason.DELETED
                assert proxy.accepted == 0
            else:  # a flow, which is decided about again
                assert answer.status == 200
                assert [asked.credentials for asked in proxy.requests] == [("new", "new")]


# --- I9: an edit of the policy


@schemes
@pytest.mark.parametrize("edit", ["credentials", "inactive", "gone", "to direct", "to refuse"])
async def test_an_edit_applies_to_the_next_request_of_a_client_that_stays(
    edit: str, tls: bool, tmp_path: Path
) -> None:
    async with origin_for(tls) as origin, Socks5Proxy() as proxy:
        exit_ = entry("socks5", proxy)
        rule = {"use": "exit"}
        async with (
            egress(tmp_path, proxies=[exit_], rules=[rule], connection_strategy="lazy") as mitm,
            session(mitm.port, origin.url(), mitm.ca_cert) as client,
        ):
            assert (await client.get()).status == 200
            if edit == "credentials":
                exit_ |= {"username": "new", "password": "new"}
                proxy.credentials = ("new", "new")
            elif edit == "inactive":
                exit_ |= {"status": "inactive"}
            else:
                rule = {"use": "refuse" if edit == "to refuse" else "direct"}
            proxies = [] if edit == "gone" else [exit_]
            write_policy(tmp_path / "policy.yaml", proxies=proxies, rules=[rule])
            await reload_policy()
            await proxy.until(lambda: not proxy.tunnels)
            after = await client.get()
        if edit in ("inactive", "to refuse"):
            reason = "disabled" if edit == "inactive" else "rule"
            assert refusal_in(after)["reason"] == reason
            assert proxy.accepted == origin.accepted == 1
        else:
            assert after.status == 200
            assert (proxy.accepted, origin.accepted) == (2 if edit == "credentials" else 1, 2)


async def test_an_edit_applies_to_the_next_stream_and_spares_other_exits(tmp_path: Path) -> None:
    rules = [
        {"filter": '~hq "x-exit: one"', "use": "one"},
        {"filter": '~hq "x-exit: two"', "use": "two"},
    ]
    async with Http2Origin() as origin, Socks5Proxy() as one, Socks5Proxy() as two:
        proxies = [entry("socks5", one, name="one"), entry("socks5", two, name="two")]
        there = {"localhost": origin.address}
        one.resolve, two.resolve = there, there
        async with (
            egress(tmp_path, proxies=proxies, rules=rules) as mitm,
            http2_client(mitm.port, mitm.ca_cert) as client,
        ):
            url = origin.url("localhost")

            async def status(name: str) -> int:
                return (await client.get(url, headers={"x-exit": name})).status_code

            assert [await status("one"), await status("two")] == [200, 200]
            proxies[0] |= {"status": "inactive"}
            write_policy(tmp_path / "policy.yaml", proxies=proxies, rules=rules)
            await reload_policy()
            await one.until(lambda: not one.open)
            assert [await status("one"), await status("two")] == [503, 200]
            proxies[0] |= {"status": "active"}
            write_policy(tmp_path / "policy.yaml", proxies=proxies, rules=rules)
            await reload_policy()
            assert [await status("one"), await status("two")] == [200, 200]
        assert (one.accepted, two.accepted) == (2, 1)


@pytest.mark.parametrize("kind", ["socks5", "http"])
@pytest.mark.parametrize("group", [False, True], ids=["proxy", "pool"])
async def test_an_answer_under_way_is_cut_when_its_exit_is_edited(
    kind: str, group: bool, tmp_path: Path
) -> None:
    """The proxy is not blamed for an end that the edit made, and nobody is asked once more."""
    make = Socks5Proxy if kind == "socks5" else HttpProxy
    async with Origin() as origin, make() as proxy, make() as other:
        exits = [entry(kind, proxy), entry(kind, other, name="other")]
        pools = [{"name": "pool", "members": ["exit", "other"], "strategy": "first"}]
        more: dict[str, Any] = {"pools": pools, "rules": [{"use": "pool" if group else "exit"}]}
        async with egress(tmp_path, proxies=exits, **more) as mitm:
            waiting = asyncio.create_task(http_get(mitm.port, origin.url(path="/hold")))
            await origin.until(lambda: origin.requests)
            edited = [exits[0] | {"port": 9}, exits[1]]
            write_policy(tmp_path / "policy.yaml", proxies=edited, **more)
            await reload_policy()
            assert (await waiting).status == 502
            (flow,) = await mitm.wait_for_flows(1)
            assert flow.error
            assert "egress.reason" not in flow.metadata
        assert (len(origin.requests), other.accepted) == (1, 0)


SPARED = {"hosts": ["spared.test"], "use": "exit"}
"""A rule that keeps using the exit."""


async def edit_rules(
    mitm: Mitm, folder: Path, exit_: dict[str, Any], *rules: dict[str, Any]
) -> None:
    write_policy(folder / "policy.yaml", proxies=[exit_], rules=list(rules))
    await reload_policy()


@pytest.mark.parametrize("use", ["refuse", "direct"])
async def test_a_tunnel_is_cut_when_its_rule_is_edited_and_its_exit_is_not(
    use: str, tmp_path: Path
) -> None:
    async with TcpEcho() as echo, HttpProxy(resolve={"spared.test": echo.address}) as proxy:
        exit_ = entry("http", proxy)
        async with (
            egress(tmp_path, proxies=[exit_], rules=[SPARED, {"use": "exit"}]) as mitm,
            connect(mitm.port, *echo.address) as cut,
            connect(mitm.port, "spared.test", echo.port) as spared,
        ):
            for tunnel in (cut, spared):
                await tunnel.send(b"\x00raw")
                assert await tunnel.receive(4) == b"\x00raw"
            await edit_rules(mitm, tmp_path, exit_, SPARED, {"use": use})
            assert await cut.closed() == b""
            await spared.send(b"more")
            assert await spared.receive(4) == b"more"


async def test_a_rule_edited_during_the_handshake_with_its_exit_is_obeyed(tmp_path: Path) -> None:
    async with HttpProxy(faults=Faults(stall="handshake")) as proxy:
        exit_ = entry("http", proxy)
        rules: list[dict[str, Any]] = [SPARED, {"use": "exit"}]
        async with egress(
            tmp_path, proxies=[exit_], rules=rules, connection_strategy="lazy"
        ) as mitm:
            url = "https://origin.test/"
            waiting = asyncio.create_task(http_get(mitm.port, url, ca=mitm.ca_cert))
            await proxy.until(lambda: proxy.received)
            await edit_rules(mitm, tmp_path, exit_, SPARED, {"use": "refuse"})
            assert refusal_in(await waiting)["reason"] == Reason.RULE


def hold_dials(patch: pytest.MonkeyPatch, port: int) -> asyncio.Event:
    """Hold connections to a port without an answer; the event is set when there is one."""
    loop = asyncio.get_running_loop()
    opens, begun = loop.sock_connect, asyncio.Event()

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        if address[1] == port:
            begun.set()
            await asyncio.Event().wait()
        await opens(sock, address)

    patch.setattr(loop, "sock_connect", sock_connect)
    return begun


@ways
@pytest.mark.parametrize("edited", ["exit", "rule"])
async def test_an_edit_while_a_connection_is_being_opened_is_what_it_is_refused_for(
    edited: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HttpProxy() as proxy:
        exit_ = entry("http", proxy, family="ipv4")
        rule = {"use": "exit"}
        async with egress(
            tmp_path,
            proxies=[exit_],
            rules=[SPARED, rule],
            connection_strategy="lazy" if "lazy" in way else "eager",
        ) as mitm:
            begun = hold_dials(monkeypatch, proxy.port)
            url = f"{'http' if way == 'http' else 'https'}://origin.test/"
            waiting = asyncio.create_task(http_get(mitm.port, url, ca=mitm.ca_cert))
            await begun.wait()
            rules: list[dict[str, Any]] = [SPARED, {"use": "refuse"}]
            if edited == "exit":
                exit_ |= {"username": "new", "password": "new"}
                rules.insert(1, {"hosts": ["else.test"], "use": "exit"})
            await edit_rules(mitm, tmp_path, exit_, *rules)
            # A flow is refused for what the policy says now, a connection because it changed.
            reason = Reason.DELETED if "eager" in way else Reason.RULE
            assert refusal_in(await waiting)["reason"] == reason
        assert proxy.accepted == 0


async def test_a_cut_connection_ends_also_when_its_exit_reads_nothing(tmp_path: Path) -> None:
    class Deaf(LabServer):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            cast(asyncio.Transport, writer.transport).pause_reading()
            await asyncio.Event().wait()

    async with Deaf() as proxy:
        exit_ = {"name": "exit", "host": V4, "port": proxy.port}
        async with (
            egress(tmp_path, proxies=[exit_], rules=[SPARED, {"use": "exit"}]) as mitm,
            connect(mitm.port, "origin.test", 9) as tunnel,
        ):
            tunnel.writer.write(bytes(16_000_000))
            (handler,) = mitm.master.addons.get("proxyserver").connections.values()
            (hop,) = mitm.master.addons.get("egressguard")._live
            to_exit = handler.transports[hop].writer.transport
            while not to_exit.get_write_buffer_size():  # the systems' buffers are full
                await asyncio.sleep(0)
            await edit_rules(mitm, tmp_path, exit_, SPARED, {"use": "refuse"})
            assert await tunnel.closed() == b""
            while to_exit.get_extra_info("socket").fileno() != -1:
                await asyncio.sleep(0)
