"""The overview: which exits it lists, in which order, and what it says of each."""

from pathlib import Path
from typing import Any

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management import history
from egress_policy.management.live import LiveEvent
from egress_policy.management.management import Management
from egress_policy.management.overview import SORTS, Overview
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.policy.hop import Outcome
from tests.helpers.management import hop, managed
from tests.management.test_history import by, event
from tests.management.test_members import NAMES, fail, policy


def publish(management: Management, *events: LiveEvent) -> None:
    for one in events:
        management.live.publish(one)


def route(management: Management, name: str) -> Route:
    proxy = management.router.snapshot.proxies.get(name)
    egress = Egress(proxy, proxy.family) if proxy else Egress(None, "ipv6")
    return Route(Choice(egress), Pin(("192.0.2.1",), None), ("a.example", 443))


def names(found: Overview) -> list[str]:
    return [one.exit for one in found.exits.items]


async def test_nothing_has_happened_yet(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="", policy=policy()) as management:
        found = await management.overviews.show()
    assert (found.now.per_second, found.now.active) == (0, 0)
    assert (found.series, found.reasons, sum(found.refused)) == ((), (), 0)
    assert (found.hop.p50_ms, found.bytes.up) == (None, 0)
    assert len(found.minutes) == len(found.refused) == 60
    assert names(found) == ["direct", *NAMES]
    idle = found.exits.items[1]
    assert (idle.id, idle.state, idle.active) == ("file:home-1", "closed", 0)
    assert (idle.success_rate, idle.address, idle.last_used) == (None, None, None)
    assert (idle.hop_ms, idle.bytes) == ((None,) * 60, (0,) * 60)


async def test_each_exit_has_its_numbers_and_how_it_fares(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="", policy=policy()) as management:
        refused: dict[str, Any] = {"code": "PROXY_UNREACHABLE", "reason": "connect_refused"}
        publish(
            management, by("home-1"), by("home-1"), event(), by("home-2", **refused),
            event(use="refuse", code="EGRESS_REFUSED", reason="rule"),
            event(use="refuse", code="EGRESS_REFUSED", reason="rule"),
        )  # fmt: skip
        one = route(management, "home-1")
        management.router.report(one, Outcome("attempt", "192.0.2.1", None, 0.0, 0.3, 0.02))
        assert management.router.standing.enter(one)
        directly = route(management, "direct")
        assert management.router.standing.enter(directly)
        assert management.router.meter_of is not None
        meter = management.router.meter_of(one.egress)
        assert meter
        meter(100, 0)
        meter(0, 900)
        fail(management, "home-2")
        proxy = management.router.snapshot.proxies["home-1"]
        management.known_exits.seen(proxy, "2001:db8::1", "push", 40.0)
        found = await management.overviews.show()
    assert found.now.active == 2
    assert [(one.code, one.reason, one.count) for one in found.reasons] == [
        ("EGRESS_REFUSED", "rule", 2),
        ("PROXY_UNREACHABLE", "connect_refused", 1),
    ]
    assert found.refused[-1] == 3
    assert found.hop.p50_ms == pytest.approx(20, rel=0.05)
    assert (found.bytes.up, found.bytes.down) == (100, 900)
    assert [(one.exit, sum(one.flows)) for one in found.series] == [("home-1", 2), ("direct", 1)]
    assert names(found) == ["home-1", "direct", "home-2", "home-3"]
    home, direct, broken, _ = found.exits.items
    assert (home.flows, home.refused, home.failed, home.success_rate) == (2, 0, 0, 1)
    assert (home.up, home.down, home.bytes[-1], home.active) == (100, 900, 1000, 1)
    assert (home.hop_ms[-1], home.address) == (20.0, "2001:db8::1")
    assert home.address_age_s == pytest.approx(40, abs=5)
    assert home.last_used
    assert (direct.id, direct.state, direct.active) == (None, None, 1)
    assert (direct.flows, direct.success_rate) == (1, None)
    assert (broken.state, broken.why, broken.success_rate) == ("open", "3 x connect_refused", 0)
    assert (broken.flows, broken.refused, broken.failed) == (0, 1, 3)


async def test_exits_are_found_sorted_and_paged(tmp_path: Path) -> None:
    async with managed(tmp_path, registry="", policy=policy()) as management:
        publish(management, by("home-2"), by("home-2"), by("gone"), event())
        show = management.overviews.show
        assert names(await show(sort="exit")) == ["direct", "gone", *NAMES]
        assert names(await show(sort="-exit")) == [*reversed(NAMES), "gone", "direct"]
        assert names(await show(sort="flows")) == ["direct", "gone", "home-2", "home-1", "home-3"]
        assert names(await show(sort="hop")) == names(await show(sort="exit"))  # none was measured
        for sort in set(SORTS) - {"exit", "hop"}:  # what was not used comes last
            assert names(await show(sort=f"-{sort}"))[-2:] == ["home-1", "home-3"]
        found = await show(q="HOME", offset=1, limit=1)
        assert names(found) == ["home-1"]
        assert found.exits.page.total == 3
        with pytest.raises(InvalidEntry):
            await show(sort="colour")


async def test_the_busiest_exits_have_series_and_the_others_one(tmp_path: Path) -> None:
    many = [hop(f"p{number:02}") for number in range(12)]
    async with managed(tmp_path, registry="", policy={"proxies": many}) as management:
        for number in range(12):
            publish(management, *[by(f"p{number:02}")] * (number + 1))
        found = await management.overviews.show()
    sums = [(one.exit, sum(one.flows)) for one in found.series]
    assert sums == [
        *((f"p{number:02}", number + 1) for number in range(11, 3, -1)),
        ("(other)", 10),
    ]
    assert all(len(one.flows) == 60 for one in found.series)


async def test_proxy_called_other_is_told_apart_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST", 2)
    proxies = [hop("other"), hop("second"), hop("third")]
    async with managed(tmp_path, registry="", policy={"proxies": proxies}) as management:
        for name in ("other", "second", "third", "third"):
            publish(management, by(name))
            meter = management.router.meter_of(Egress(management.router.snapshot.proxies[name]))
            assert meter
            meter(100, 0)
        found = await management.overviews.show()
        assert {one.exit: sum(one.flows) for one in found.series} == {
            "other": 1, "second": 1, "(other)": 2,
        }  # fmt: skip
        flows = {one.exit: (one.id, one.flows, one.up) for one in found.exits.items}
        assert flows["other"] == ("file:other", 1, 100)
        assert flows["(other)"] == (None, 2, 200)
        up = {name: up for name, up, _ in management.measure().bytes}
        assert up == {"other": 100, "second": 100, "(other)": 200}
