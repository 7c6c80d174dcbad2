"""The content view "Egress": the record of a flow, and what the policy says of it now."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import contentviews, http, tcp
from mitmproxy.test import tflow

from egress_policy.management.management import Management
from egress_policy.proxy.contentview import NOTHING, EgressContentview
from egress_policy.proxy.explaining import explain_flow
from egress_policy.proxy.filters import compile_filter, request_for
from tests.helpers.clients import connect, http_get
from tests.helpers.mitm import Mitm
from tests.helpers.origin import Origin, TcpEcho
from tests.helpers.proxies import HttpProxy, entry
from tests.helpers.scene import egress, write_policy


def shown(flow: Any, message: Any) -> str:
    found = contentviews.prettify_message(message, flow, "egress")
    assert (found.view_name, found.syntax_highlight) == ("Egress", "yaml")
    return found.text


async def test_record_and_explanation_of_a_flow_are_shown(tmp_path: Path) -> None:
    async with Origin() as origin, HttpProxy() as proxy:
        policy: dict[str, Any] = {
            "proxies": [entry("http", proxy, username="u", password="s3cret")]
        }
        policy["rules"] = [{"name": "no", "hosts": ["a.test"], "use": "refuse"}, {"use": "exit"}]
        async with egress(tmp_path, **policy) as mitm:
            await http_get(mitm.port, origin.url(), headers=[("x", "mine")])
            [flow] = await mitm.wait_for_flows(1)
            assert isinstance(flow, http.HTTPFlow)
            assert flow.response
            text = shown(flow, flow.response)
            first, *rest = text.splitlines()
            assert first.startswith(f"via exit 127.0.0.1:{proxy.port} IPv4, rule #2")
            assert {"egress.use: proxy", "egress.reused: false", "egress.family: auto"} <= {*rest}
            assert {"outcome: egress", "#2: matched, rule #2 (no condition) matches"} <= {*rest}
            assert "no: not matched, host 127.0.0.1 is none of its hosts" in rest
            assert shown(flow, flow.request) == text
            assert "s3cret" not in text
            write_policy(tmp_path / "policy.yaml", rules=[{"filter": "~hq mine", "use": "refuse"}])
            await mitm.wait_for_log("reloaded")
            text = shown(flow, flow.response)
            assert text.startswith("via exit ")
            assert "outcome: refuse\nrule: #1" in text
        text = shown(flow, flow.response)
        assert text.startswith("via exit ")
        assert "What the policy" not in text


async def test_stream_is_explained_by_its_target(tmp_path: Path) -> None:
    async with TcpEcho() as echo:
        rules = [{"name": "web", "filter": "~http", "use": "refuse"}, {"use": "direct"}]
        async with egress(tmp_path, rules=rules, connection_strategy="lazy") as mitm:
            async with connect(mitm.port, *echo.address) as tunnel:
                await tunnel.send(b"\x00ping")
                await tunnel.receive(5)
            [flow] = await mitm.wait_for_flows(1)
            assert isinstance(flow, tcp.TCPFlow)
            text = shown(flow, flow.messages[0])
            assert text.startswith("direct 127.0.0.1:")
            assert "outcome: egress\nrule: #2" in text


async def test_view_is_never_chosen_by_itself_and_outlives_the_script(tmp_path: Path) -> None:
    for _ in range(2):
        async with Mitm(tmp_path):
            pass
        async with egress(tmp_path):
            flow = tflow.tflow(resp=True)
            auto = contentviews.prettify_message(flow.request, flow, "auto")
            assert auto.view_name != "Egress"
            assert shown(flow, flow.request).startswith(NOTHING)
            assert "What the policy" in shown(flow, flow.request)
        assert shown(flow, flow.request) == NOTHING


def test_view_of_no_flow() -> None:
    assert EgressContentview(None).prettify(b"", contentviews.Metadata()) == NOTHING


async def test_console_keeps_no_copy_of_what_is_shown(tmp_path: Path) -> None:
    """Two flows with equal answers left by different ways."""
    from mitmproxy.tools.console.flowview import FlowDetails

    class Details:
        _get_content_view = FlowDetails._get_content_view
        flow: Any

    async with egress(tmp_path):
        details, texts = Details(), []
        for name in ("one", "two"):
            details.flow = tflow.tflow(resp=True)
            details.flow.metadata |= {"egress.use": "proxy", "egress.proxy": name}
            details._get_content_view_message = details.flow.response  # type: ignore[attr-defined]
            _, [text] = details._get_content_view("egress", 100, 0)
            texts.append(text.text)
            await asyncio.sleep(0)  # a turn of the loop
            assert FlowDetails._get_content_view.cache_info().currsize == 0
        assert [str(text).split(",")[0] for text in texts] == ["via one", "via two"]


MANAGEMENT = Management(compile_filter, request_for)
_ANY = st.text(max_size=20)


@given(host=_ANY, path=_ANY, method=_ANY, header=_ANY, client=_ANY)
def test_any_flow_is_explained_or_not(
    host: str, path: str, method: str, header: str, client: str
) -> None:
    flow = tflow.tflow()
    flow.client_conn.peername = (client, 1)
    flow.request.data.host, flow.request.data.port = host, 80
    flow.request.data.path = path.encode("utf-8", "surrogatepass")
    flow.request.data.method = method.encode("utf-8", "surrogatepass")
    flow.request.headers["x"] = header.encode("utf-8", "surrogatepass")
    found = explain_flow(MANAGEMENT, flow)
    assert found is None or found.rule == "default"


@pytest.mark.parametrize("peername", [None, ()])
def test_saved_flow_without_its_client_shows_its_record(peername: Any) -> None:
    flow = tflow.tflow()
    flow.client_conn.peername = peername
    flow.metadata |= {"egress.use": "direct", "egress.rule": "default"}
    view = EgressContentview(MANAGEMENT)
    text = view.prettify(b"", contentviews.Metadata(flow=flow))
    assert text.startswith("direct, default, not connected")
    assert "cannot be explained" in text


@pytest.mark.parametrize("kind", ["tcp", "udp", "dns", "http"])
def test_saved_flow_of_any_kind_shows_its_record(kind: str) -> None:
    made: dict[str, Any] = {
        "tcp": tflow.ttcpflow,
        "udp": tflow.tudpflow,
        "dns": tflow.tdnsflow,
        "http": tflow.tflow,
    }
    flow = made[kind]()
    flow.metadata |= {"egress.use": "proxy", "egress.proxy": "a\u202eb", "egress.port": "no"}
    view = EgressContentview(None)
    text = view.prettify(b"", contentviews.Metadata(flow=flow))
    assert text.startswith("via a\\u202eb, rule ?, not connected")


def test_whatever_a_saved_flow_carries_little_is_shown_of_it() -> None:
    flow = tflow.tflow(resp=True)
    flow.metadata = {f"egress.{number}": "x" for number in range(10_000)} | flow.metadata
    flow.metadata |= {"egress." + "n" * 10**6: "x"}
    flow.metadata = {
        "egress.rule": "\x1b[2J" * 10**6,
        "egress.port": 10**5000,
        "egress.dns_ms": [["deep"] * 10**6],
        **flow.metadata,
    }
    text = EgressContentview(None).prettify(b"", contentviews.Metadata(flow=flow))
    assert len(text) < 100_000
    assert "\x1b" not in text
    assert "egress.port: a number of " in text
