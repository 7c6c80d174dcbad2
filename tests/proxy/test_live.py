"""What the live view and the metrics say of flows whose first member failed."""

from pathlib import Path

from egress_policy.management.attempts import Attempted
from egress_policy.proxy.addons.console import EgressConsole
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
        times = [shown[f"{part}_ms"] for part in ("connect", "handshake", "first_byte", "duration")]
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
