"""Flows as events of the live view, and what is counted where a first member failed."""

import json
import time
from pathlib import Path

import pytest
from mitmproxy.test import tflow, tutils

from egress_policy.management.attempts import Attempted
from egress_policy.proxy.addons.console import EgressConsole
from egress_policy.proxy.live import event_of
from egress_policy.proxy.record import EgressRecord, keep
from tests.helpers.proxies import Faults, HttpProxy, Socks5Proxy
from tests.helpers.scene import part
from tests.proxy.test_failover import GOOD, ask, scene


async def test_the_live_view_shows_what_was_tried(tmp_path: Path) -> None:
    async with (
        HttpProxy() as good,
        scene(tmp_path, "https eager", 1, good, "http") as (mitm, target),
    ):
        console = part(EgressConsole)
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
        console = part(EgressConsole)
        assert (await ask(mitm, target)).status == 503
        await mitm.until(lambda: console.management.live.since(0))
        [event] = console.management.live.since(0)
        assert (event.fault, event.attempt) == ("undecided", 2)
        assert event.tried.startswith("bad:connect_refused, good:")
        failed = [key for key in console.management.attempts.counts if key.outcome == "failed"]
        assert {key.proxy for key in failed} == {"bad", "good"}


@pytest.mark.parametrize(
    ("ready", "tls", "waited"),
    [
        pytest.param(None, None, 4, id="nothing is known"),
        pytest.param(-2, None, 4, id="open before"),
        pytest.param(2, None, 2, id="opened for it"),
        pytest.param(2, 3.5, 0.5, id="with TLS"),
        pytest.param(8, None, 0, id="the clock was set"),
    ],
)
def test_wait_for_an_answer_begins_when_the_request_can_be_sent(
    ready: float | None, tls: float | None, waited: float
) -> None:
    """A request took a second; its answer began 4 s later and took 2 s."""
    now, steady = time.time(), time.monotonic()
    request = tutils.treq(timestamp_start=now - 1, timestamp_end=now)
    flow = tflow.tflow(
        req=request, resp=tutils.tresp(timestamp_start=now + 4, timestamp_end=now + 6)
    )
    flow.server_conn.timestamp_tls_setup = None if tls is None else now + tls
    keep(flow.server_conn, EgressRecord(ready=None if ready is None else steady + ready))
    flow.metadata["egress.use"] = "direct"
    event = event_of(flow)
    assert event
    assert event.first_byte_ms == pytest.approx(waited * 1000, abs=50)
    assert (event.answer_ms, event.duration_ms) == (2000, 7000)


async def test_times_of_a_flow_follow_one_another(tmp_path: Path) -> None:
    """The wait for the answer begins when the way there is open, and all of it is in the whole."""
    async with (
        Socks5Proxy(credentials=GOOD) as good,
        scene(tmp_path, "http", 1, good, "socks5") as (mitm, target),
    ):
        console = part(EgressConsole)
        assert (await ask(mitm, target)).status == 200
        await mitm.until(lambda: console.management.live.since(0))
        [event] = console.management.live.since(0)
        parts = (event.connect_ms, event.handshake_ms, event.first_byte_ms, event.answer_ms)
        known = [part for part in parts if part is not None]
        assert len(known) == 4
        assert event.duration_ms is not None
        assert sum(known) <= event.duration_ms + 0.2  # as they are rounded


@pytest.mark.parametrize("where", ["method", "host", "path"])
def test_texts_of_clients_are_bounded(where: str) -> None:
    flow = tflow.tflow(req=tutils.treq())
    setattr(flow.request, where, "/A" * 50_000)
    flow.metadata["egress.use"] = "direct"
    event = event_of(flow)
    assert event
    assert getattr(event, where) == "/A" * 500 + "…"
    assert len(json.dumps(event.shown())) < 3000
