"""A flow as an event of the live view, and what the metrics say of a first member that failed."""

import json
from pathlib import Path

import pytest
from mitmproxy.test import tflow, tutils

from egress_policy.management.attempts import Attempted
from egress_policy.management.live import LiveEvent
from egress_policy.proxy.addons.console import EgressConsole
from egress_policy.proxy.live import event_of
from egress_policy.proxy.record import EgressRecord, keep
from tests.helpers.proxies import Faults, HttpProxy
from tests.proxy.test_failover import ask, scene


async def test_the_live_view_shows_what_was_tried(tmp_path: Path) -> None:
    async with (
        HttpProxy() as good,
        scene(tmp_path, "https eager", 1, good, "http") as (mitm, target),
    ):
        [console] = [one for one in mitm.master.addons.chain if isinstance(one, EgressConsole)]
        management = console.management
        answer = await ask(mitm, target, "https")
        assert answer.status == 200
        await mitm.until(lambda: management.live.since(0))
        [event] = management.live.since(0)
        shown = event.shown()
        assert (shown["pool"], shown["strategy"], shown["proxy"]) == ("homes", "first", "good")
        assert (shown["attempt"], shown["tried"]) == (2, "bad:connect_refused")
        assert shown["fault"] == ""
        assert (shown["path"], shown["address"], shown["hop_port"]) == ("/", "127.0.0.1", good.port)
        parts = ("connect", "handshake", "first_byte", "answer", "duration")
        times = [shown[f"{part}_ms"] for part in parts]
        assert all(isinstance(time, float) and 0 <= time < 5000 for time in times)
        assert (shown["sent"], shown["received"]) == (0, len(answer.body))
        attempts = management.attempts
        assert attempts.counts == {
            Attempted("homes", "bad", "failed", "proxy"): 1,
            Attempted("homes", "good", "ok", ""): 1,
        }
        assert attempts.failovers == {"homes": 1}
        assert attempts.hops["homes"].counts != []
        assert 0 < attempts.hops["homes"].total < 5


async def test_a_refusal_says_whose_fault_it_was(tmp_path: Path) -> None:
    async with (
        HttpProxy(faults=Faults(reset="accept")) as last,
        scene(tmp_path, "http", 1, last, "http") as (mitm, target),
    ):
        [console] = [one for one in mitm.master.addons.chain if isinstance(one, EgressConsole)]
        assert (await ask(mitm, target)).status == 503
        await mitm.until(lambda: console.management.live.since(0))
        [event] = console.management.live.since(0)
        assert (event.fault, event.attempt) == ("undecided", 2)
        assert event.tried.startswith("bad:connect_refused, good:")
        failed = [key for key in console.management.attempts.counts if key.outcome == "failed"]
        assert {key.proxy for key in failed} == {"bad", "good"}


def timed(*, reached: float | None, tls: float | None, handshake: float | None) -> LiveEvent:
    """A request from second 10 to 11, whose answer came from 15 to 17."""
    request = tutils.treq(timestamp_start=10, timestamp_end=11)
    flow = tflow.tflow(req=request, resp=tutils.tresp(timestamp_start=15, timestamp_end=17))
    flow.server_conn.timestamp_tcp_setup, flow.server_conn.timestamp_tls_setup = reached, tls
    keep(flow.server_conn, EgressRecord(handshake_ms=handshake))
    flow.metadata["egress.use"] = "direct"
    event = event_of(flow)
    assert event
    return event


@pytest.mark.parametrize(
    ("reached", "tls", "handshake", "waited"),
    [
        pytest.param(None, None, None, 4.0, id="nothing is known"),
        pytest.param(9.0, None, None, 4.0, id="open before"),
        pytest.param(13.0, None, None, 2.0, id="opened for it"),
        pytest.param(13.0, None, 500.0, 1.5, id="with a handshake"),
        pytest.param(13.0, 14.5, 500.0, 0.5, id="with TLS"),
        pytest.param(19.0, None, None, 0.0, id="the clock was set"),
    ],
)
def test_wait_for_an_answer_begins_when_the_request_can_be_sent(
    reached: float | None, tls: float | None, handshake: float | None, waited: float
) -> None:
    event = timed(reached=reached, tls=tls, handshake=handshake)
    assert (event.first_byte_ms, event.answer_ms) == (waited * 1000, 2000.0)
    assert event.duration_ms == 7000.0


@pytest.mark.parametrize("where", ["method", "host", "path"])
def test_texts_of_clients_are_bounded(where: str) -> None:
    flow = tflow.tflow(req=tutils.treq())
    setattr(flow.request, where, "/A" * 50_000)
    flow.metadata["egress.use"] = "direct"
    event = event_of(flow)
    assert event
    assert getattr(event, where) == "/A" * 500 + "…"
    assert len(json.dumps(event.shown())) < 3000
