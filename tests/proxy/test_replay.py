"""Replay: repeated requests are decided again, and nothing that was stored is trusted."""

from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import http
from mitmproxy.proxy import mode_specs
from mitmproxy.test import tflow

from egress_policy.errors import Reason
from egress_policy.registry.scopes import scope_condition
from tests.helpers.client_paths import origin_for
from tests.helpers.clients import http_get, session
from tests.helpers.lab import egress_metadata, load_flows, request_to, save_flows
from tests.helpers.mitm import Mitm
from tests.helpers.nameserver import Nameserver
from tests.helpers.origin import Origin
from tests.helpers.proxies import HttpProxy, Socks5Proxy, entry, make
from tests.helpers.scene import egress

ALL = [{"use": "exit"}]
schemes = pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
types = pytest.mark.parametrize("type_", ["http", "https", "socks5"])


async def replay(mitm: Mitm, *flows: http.HTTPFlow) -> None:
    """Replay flows, which may be finished already, and wait until they are finished."""
    known = [flow for flow in mitm.flows if flow in flows]
    for flow in known:
        mitm.flows.remove(flow)
    count = len(mitm.flows) + len(flows)
    mitm.master.commands.call("replay.client", list(flows))
    await mitm.wait_for_flows(count)
    await mitm.master.addons.get("clientplayback").queue.join()


@types
@schemes
@pytest.mark.parametrize("strategy", ["eager", "lazy"])
async def test_a_flow_is_replayed_while_its_own_connection_is_still_open(
    strategy: str, tls: bool, type_: str, tmp_path: Path
) -> None:
    async with origin_for(tls) as origin, make(type_) as proxy:
        exits = [entry(type_, proxy)]
        async with (
            egress(tmp_path, proxies=exits, rules=ALL, connection_strategy=strategy) as mitm,
            session(mitm.port, origin.url(), mitm.ca_cert) as client,
        ):
            assert (await client.get()).status == 200
            (flow,) = await mitm.wait_for_flows(1)
            assert isinstance(flow, http.HTTPFlow)
            await replay(mitm, flow)
            assert flow.response
            assert flow.response.status_code == 200
            assert (await client.get()).status == 200
    assert proxy.accepted == 2


@types
@schemes
async def test_a_flow_is_replayed_after_its_connection_is_gone(
    tls: bool, type_: str, tmp_path: Path
) -> None:
    async with (
        origin_for(tls) as origin,
        make(type_) as proxy,
        egress(tmp_path, proxies=[entry(type_, proxy)], rules=ALL) as mitm,
    ):
        await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)
        (flow,) = await mitm.wait_for_flows(1)
        assert isinstance(flow, http.HTTPFlow)
        await mitm.until(lambda: not mitm.clients)
        for _ in range(2):
            await replay(mitm, flow)
            assert flow.response
            assert flow.response.status_code == 200
            assert egress_metadata(flow)["reused"] is False
        assert proxy.accepted == 3


@pytest.mark.parametrize("way", ["-C at the start", "-C", "command"])
@pytest.mark.parametrize("rule", [{"use": "exit"}, {"use": "refuse"}])
@schemes
async def test_each_way_to_replay_obeys_the_policy(
    tls: bool, rule: dict[str, str], way: str, tmp_path: Path
) -> None:
    async with origin_for(tls) as origin, make("socks5") as proxy:
        stored = request_to(origin.url(path="/again"))
        files = [str(save_flows(tmp_path / "flows", [stored]))]
        start: dict[str, Any] = {"client_replay": files} if way == "-C at the start" else {}
        exits = [entry("socks5", proxy)]
        async with egress(tmp_path, proxies=exits, rules=[rule], **start) as mitm:
            if way == "-C":
                mitm.options.update(client_replay=files)
            elif way == "command":
                mitm.master.commands.call("replay.client", load_flows(tmp_path / "flows"))
            await mitm.wait_for_flows(1)
            (flow,) = mitm.http_flows
    assert flow.response
    if rule["use"] == "exit":
        assert flow.response.json()["path"] == "/again"
        assert proxy.targets == [origin.authority]
    else:
        assert (flow.response.status_code, flow.response.json()["reason"]) == (503, "rule")
        assert egress_metadata(flow)["code"] == "EGRESS_REFUSED"
        assert (proxy.accepted, origin.accepted) == (0, 0)


@schemes
async def test_an_exit_that_cannot_be_reached_refuses_a_replayed_flow(
    tls: bool, tmp_path: Path
) -> None:
    async with origin_for(tls) as origin:
        async with Socks5Proxy() as gone:
            exits = [entry("socks5", gone)]
        flow = request_to(origin.url())
        async with egress(tmp_path, proxies=exits, rules=ALL) as mitm:
            await replay(mitm, flow)
    assert flow.response
    assert flow.response.status_code == 503
    assert flow.response.json()["reason"] == Reason.CONNECT_REFUSED
    assert egress_metadata(flow)["reason"] == Reason.CONNECT_REFUSED
    assert origin.accepted == 0


@schemes
async def test_a_stored_via_is_not_obeyed(tls: bool, tmp_path: Path) -> None:
    async with origin_for(tls) as origin, make("http") as stored_one, make("socks5") as proxy:
        stored = request_to(origin.url())
        stored.server_conn.via = ("http", stored_one.address)
        file = save_flows(tmp_path / "flows", [stored])
        (flow,) = load_flows(file)
        assert flow.server_conn.via
        for rules, dialled in (([], 0), (ALL, 1)):
            exits = [entry("socks5", proxy)]
            async with egress(tmp_path, proxies=exits, rules=rules) as mitm:
                await replay(mitm, flow)
            assert flow.response
            assert flow.response.status_code == 200
            assert flow.server_conn.via is None
            assert proxy.accepted == dialled
    assert stored_one.accepted == 0


async def test_what_an_earlier_run_wrote_is_cleared_first(tmp_path: Path) -> None:
    async with Origin() as origin:
        flow = request_to(origin.url())
        flow.metadata |= {"egress.code": "EGRESS_REFUSED", "egress.pool": "old", "mine": 1}
        async with egress(tmp_path) as mitm:
            await replay(mitm, flow)
    carried = egress_metadata(flow)
    assert {"code", "pool"}.isdisjoint(carried)
    assert carried["use"] == "direct"
    assert flow.metadata["mine"] == 1


async def test_a_request_edited_before_it_is_replayed_is_decided_for_what_it_is(
    tmp_path: Path,
) -> None:
    rules = [{"hosts": ["127.0.0.1"], "use": "direct"}, {"hosts": ["origin.test"], "use": "exit"}]
    async with (
        Origin() as origin,
        make("http", resolve={"origin.test": origin.address}) as proxy,
        egress(tmp_path, proxies=[entry("http", proxy)], rules=rules) as mitm,
    ):
        await http_get(mitm.port, origin.url())
        (flow,) = await mitm.wait_for_flows(1)
        assert isinstance(flow, http.HTTPFlow)
        assert egress_metadata(flow)["use"] == "direct"
        await mitm.until(lambda: not mitm.clients)
        flow.request.host = "origin.test"
        await replay(mitm, flow)
    assert egress_metadata(flow)["proxy"] == "exit"
    assert proxy.targets == [f"origin.test:{origin.port}"]


@pytest.mark.parametrize(
    ("rules", "default", "outcome"),
    [
        ([], "direct", "upstream"),
        ([], "refuse", "refused"),
        (ALL, "direct", "exit"),
        ([{"use": "direct"}], "direct", "direct"),
    ],
)
@schemes
async def test_replay_in_upstream_mode(
    tls: bool, rules: list[dict[str, Any]], default: str, outcome: str, tmp_path: Path
) -> None:
    async with origin_for(tls) as origin, make("http") as up, make("socks5") as proxy:
        flow = request_to(origin.url())
        # mitmproxy replays in this mode what it recorded in it, be it with another upstream
        flow.client_conn.proxy_mode = mode_specs.ProxyMode.parse("upstream:http://127.0.0.1:9")
        async with egress(
            tmp_path,
            proxies=[entry("socks5", proxy)],
            rules=rules,
            default=default,
            mode=[f"upstream:http://{up.authority}"],
        ) as mitm:
            await replay(mitm, flow)
    dialled = {"upstream": (1, 0), "exit": (0, 1)}.get(outcome, (0, 0))
    assert (up.accepted, proxy.accepted) == dialled
    assert origin.accepted == (0 if outcome == "refused" else 1)
    assert flow.server_conn.via is None


async def test_the_mode_a_flow_was_recorded_in_says_nothing_about_its_replay(
    tmp_path: Path,
) -> None:
    async with Origin() as origin, make("http") as up:
        flow = request_to(origin.url())
        flow.client_conn.proxy_mode = mode_specs.ProxyMode.parse(f"upstream:http://{up.authority}")
        async with egress(tmp_path) as mitm:
            await replay(mitm, flow)
    assert (up.accepted, origin.accepted) == (0, 1)


# --- flows as they are kept


@types
@schemes
async def test_saved_flows_load_copy_and_replay_with_and_without_the_addon(
    tls: bool, type_: str, tmp_path: Path
) -> None:
    async with origin_for(tls) as origin, make(type_, credentials=("alice", "s3cret")) as proxy:
        exit_ = entry(type_, proxy, username="alice", password="s3cret")
        file = tmp_path / "flows"
        async with egress(tmp_path, proxies=[exit_], rules=ALL, save_stream_file=str(file)) as mitm:
            assert (await http_get(mitm.port, origin.url(), ca=mitm.ca_cert)).status == 200
            await mitm.wait_for_flows(1)
            mitm.options.update(save_stream_file=None)
            kept = load_flows(save_flows(tmp_path / "by hand", mitm.flows)) + load_flows(file)
            copies = [flow.copy() for flow in [*mitm.http_flows, *kept]]
            assert all(flow.server_conn.via is None for flow in copies)
            await replay(mitm, *kept)
        assert proxy.accepted == 3
        assert b"s3cret" not in file.read_bytes()
        async with Mitm(tmp_path / "stock") as stock:
            await replay(stock, *copies)
        answered = [flow.response.status_code for flow in [*kept, *copies] if flow.response]
        assert answered == [200] * 5
        assert proxy.accepted == 3
        assert origin.accepted == 6


async def test_refused_flows_are_saved_and_loaded(tmp_path: Path) -> None:
    async with egress(tmp_path, default="refuse") as mitm:
        await http_get(mitm.port, "http://origin.test/")
        await mitm.wait_for_flows(1)
        (flow,) = load_flows(save_flows(tmp_path / "flows", mitm.flows))
    assert egress_metadata(flow) | {"rule": "default"} == egress_metadata(flow)
    assert flow.response
    assert flow.response.json()["reason"] == Reason.DEFAULT


async def test_flows_that_are_only_read_are_left_alone(tmp_path: Path) -> None:
    """As ``-r`` and uploads do it: hooks fire, but nothing is sent."""
    flow = tflow.tflow(resp=True)
    flow.live = False
    flow.metadata["egress.proxy"] = "of then"
    flow.server_conn.via = ("http", ("stored.test", 1))
    async with egress(tmp_path, default="refuse") as mitm:
        await cast(Any, mitm.master).load_flow(flow)
    assert flow.response
    assert flow.response.status_code == 200
    assert flow.metadata == {"egress.proxy": "of then"}


@schemes
async def test_server_replay_answers_without_look_up_dial_or_refusal(
    tls: bool, tmp_path: Path
) -> None:
    scheme = "https" if tls else "http"
    known = request_to(f"{scheme}://origin.test/known")
    known.response = http.Response.make(200, b"from the file")
    files = [str(save_flows(tmp_path / "flows", [known]))]
    async with Nameserver({}) as nameserver, make("http") as proxy:
        exit_ = entry("http", proxy, host="proxy.test", family="ipv4")
        async with egress(
            tmp_path,
            proxies=[exit_],
            rules=ALL,
            dns=nameserver.port,
            server_replay=files,
            connection_strategy="lazy",
        ) as mitm:
            url = f"{scheme}://origin.test/known"
            answer = await http_get(mitm.port, url, ca=mitm.ca_cert)
            (flow,) = await mitm.wait_for_flows(1)
        assert (answer.status, answer.body) == (200, b"from the file")
        assert egress_metadata(flow) == {}
        assert not nameserver.queries
    assert proxy.accepted == 0


async def test_an_undecided_replay_keeps_no_earlier_record(
    tmp_path: Path,
) -> None:
    async with Origin() as origin, HttpProxy() as proxy:
        async with egress(tmp_path, proxies=[entry("http", proxy)], rules=ALL) as mitm:
            again = request_to(origin.url())
            await replay(mitm, again)
            assert egress_metadata(again)["use"] == "proxy"
            mitm.master.addons.remove(mitm.master.addons.get("egressselect"))
            await replay(mitm, again)
            assert egress_metadata(again) == {
                "use": "refuse",
                "rule": "",
                "code": "EGRESS_INTERNAL",
                "reason": Reason.ERROR,
            }
        assert proxy.accepted == 1


@pytest.mark.parametrize(
    ("noted", "exits"),
    [
        (("alice", "s3cret"), 1),
        (("bob", "s3cret"), 0),
        (["alice", "s3cret", "x"], 0),
        ("('alice', 's3cret')", 0),
        (["alice\n", "s3cret"], 0),
    ],
    ids=str,
)
async def test_the_user_that_a_file_names_counts_if_proxyauth_can_have_written_it(
    noted: Any, exits: int, tmp_path: Path
) -> None:
    rule = scope_condition("user", "alice") | {"use": "exit"}
    async with Origin() as origin, HttpProxy() as proxy:
        flow = request_to(origin.url())
        flow.metadata["proxyauth"] = noted
        loaded = load_flows(save_flows(tmp_path / "flows", [flow]))
        async with egress(tmp_path, proxies=[entry("http", proxy)], rules=[rule]) as mitm:
            await replay(mitm, *loaded)
        assert (proxy.accepted, len(origin.requests)) == (exits, 1)


async def test_a_rule_does_not_see_what_an_earlier_run_wrote(tmp_path: Path) -> None:
    rules = [{"filter": "~meta egress", "use": "refuse"}]
    async with Origin() as origin, egress(tmp_path, rules=rules) as mitm:
        flow = request_to(origin.url())
        flow.metadata["egress.proxy"] = "home-1"
        await replay(mitm, flow)
        assert flow.response
        assert flow.response.status_code == 200
