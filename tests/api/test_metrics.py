"""What Prometheus is told."""

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from egress_policy.errors import Reason
from egress_policy.management import measured
from egress_policy.model.decision import Choice, Egress, Pin, Refusal, Route, Target
from egress_policy.policy.hop import Outcome
from tests.api.scene import Scene, serving
from tests.helpers.management import hop
from tests.management.test_history import by
from tests.management.test_members import NAMES, fail, policy


async def samples(scene: Scene) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The value of each series by its name and sorted labels."""
    answer = await scene.ask("GET", "/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def series(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return f"egress_{name}", tuple(sorted(labels.items()))


async def test_attempts_failovers_and_members_are_measured(tmp_path: Path) -> None:
    made = policy(strategy="first")
    made["proxies"][2]["status"] = "inactive"
    async with serving(tmp_path, registry="", policy=made) as scene:
        router = scene.management.router
        target = Target("a.test", 443)
        choice = router.choose(target)
        refusal = Refusal(Reason.CONNECT_REFUSED, "why", "home-1", fault="proxy", fails_over=True)
        further = router.choose_after(choice, refusal, target)
        assert further.egress is not None
        route = Route(further, Pin(("192.0.2.2",), None), ("a.test", 443))
        assert router.standing.enter(route)
        router.report(route, Outcome("dial", "192.0.2.2", None, 0.0, 0.02))
        router.report(route, Outcome("attempt", "192.0.2.2", None, 0.0, 0.3, 0.02))
        fail(scene.management, "home-1")
        found = await samples(scene)
    two = {"pool": "homes", "proxy": "home-2"}
    assert found[series("attempts_total", **two, outcome="ok", fault="")] == 1
    one = {"pool": "", "proxy": "home-1"}
    assert found[series("attempts_total", **one, outcome="failed", fault="proxy")] == 3
    assert found[series("failovers_total", pool="homes")] == 1
    assert found[series("hop_seconds_bucket", pool="homes", le="0.025")] == 1
    assert found[series("hop_seconds_bucket", pool="homes", le="0.01")] == 0
    assert found[series("hop_seconds_count", pool="homes")] == 1
    assert found[series("hop_seconds_sum", pool="homes")] == pytest.approx(0.02)
    assert found[series("active_connections", proxy="home-2")] == 1
    assert found[series("active_connections", proxy="home-1")] == 0
    for state in ("open", "closed", "unusable"):
        assert found[series("pool_members", pool="homes", state=state)] == 1
    assert found[series("check_lag_seconds")] == 0
    assert found[series("own_network_suspect")] == 0
    assert found[series("exit_changes_total")] == 0


async def test_durations_and_bytes_are_measured(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="", policy=policy()) as scene:
        management = scene.management
        management.live.publish(by("home-1", duration_ms=30.0))
        for name in ("home-1", "direct"):
            meter = management.router.meter_of(Egress(management.router.snapshot.proxies.get(name)))
            assert meter
            meter(100, 0)
            meter(0, 900)
        found = await samples(scene)
    assert found[series("flow_seconds_bucket", use="proxy", le="0.025")] == 0
    assert found[series("flow_seconds_bucket", use="proxy", le="0.05")] == 1
    assert found[series("flow_seconds_sum", use="proxy")] == pytest.approx(0.03)
    for name in ("home-1", "direct"):
        assert found[series("bytes_total", exit=name, direction="up")] == 100
        assert found[series("bytes_total", exit=name, direction="down")] == 900


async def test_checks_are_counted_by_what_came_of_them(tmp_path: Path) -> None:
    async with serving(tmp_path, registry="", policy=policy()) as scene:
        scene.management.checks.outcomes["failed"] += 2
        found = await samples(scene)
    assert found[series("checks_total", outcome="failed")] == 2


async def test_series_with_a_proxy_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "MOST", 2)
    async with serving(tmp_path, registry="", policy=policy()) as scene:
        totals = scene.management.live.totals
        for name in NAMES:
            totals.by_proxy[name] += 2
        totals.by_proxy["other"] += 1  # a proxy that a person called so
        found = await samples(scene)
    for name in ("active_connections", "proxy_flows_total"):
        proxies = [dict(labels)["proxy"] for one, labels in found if one == f"egress_{name}"]
        assert proxies == ["home-1", "home-2", "(other)"]
    assert found[series("proxy_flows_total", proxy="(other)")] == 3


async def test_names_are_escaped(tmp_path: Path) -> None:
    name = 'a "name" \\ with {braces}, \u202e and =1'
    made: dict[str, Any] = {
        "proxies": [hop(name)],
        "pools": [{"name": f"{name}!", "members": [name]}],
        "rules": [{"use": f"{name}!"}],
    }
    async with serving(tmp_path, registry="", policy=made) as scene:
        egress = Egress(scene.management.router.snapshot.proxies[name])
        route = Route(Choice(egress, pool=f"{name}!"), Pin(("192.0.2.1",), None), ("a.test", 1))
        scene.management.router.report(route, Outcome("attempt", "192.0.2.1", None, 0, 1, 0.1))
        found = await samples(scene)
    labels = {"pool": f"{name}!", "proxy": name}
    assert found[series("attempts_total", **labels, outcome="ok", fault="")] == 1
    assert found[series("pool_members", pool=f"{name}!", state="closed")] == 1
    assert found[series("hop_seconds_count", pool=f"{name}!")] == 1


async def test_the_reference_names_each_metric(tmp_path: Path) -> None:
    reference = Path(__file__).parents[2] / "docs" / "reference.md"
    text = reference.read_text("utf-8").partition("## Metrics")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(egress_\w+)(?:{[^}]*})?`", text))
    async with serving(tmp_path, registry="") as scene:
        answer = await scene.ask("GET", "/metrics")
    types = re.findall(r"^# TYPE (\w+) \w+$", answer.text, re.MULTILINE)
    assert listed == set(types)
