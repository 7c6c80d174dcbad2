"""How proxies fare, on a clock that the test moves."""

import random
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.management.states import States, why_now
from egress_policy.model.decision import Choice, Egress, Pin, Route
from egress_policy.model.rule import Policy
from egress_policy.policy.fault import Cause
from egress_policy.policy.health import Health
from egress_policy.policy.hop import HopFailure, Outcome
from egress_policy.policy.snapshot import build_snapshot
from egress_policy.policy.standing import Standing
from tests.helpers.filters import compile_word

NAMES = ("a", "b", "c")
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Scene:
    """Three proxies that fare as a test says. ``time`` is in seconds."""

    def __init__(self, **fields: Any) -> None:
        proxies = [{"name": name, "host": f"{name}.test", **fields} for name in NAMES]
        policy = Policy.model_validate({"proxies": proxies})
        self.time = 1000.0
        self.snapshot = build_snapshot(policy, compile_word)
        self.health = Health(lambda: self.time, random.Random(1))
        self.standing = Standing(self.health)
        self.kept: list[Route] = []
        in_force: Any = SimpleNamespace(snapshot=self.snapshot)
        self.states = States(in_force, self.standing, lambda: self.time, lambda: self.now)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(START.timestamp() + self.time - 1000.0, UTC)

    def egress(self, name: str) -> Egress:
        proxy = self.snapshot.proxies[name]
        return Egress(proxy, proxy.family)

    def attempt(self, name: str, cause: Cause | None = None, hop: float | None = None) -> None:
        failure = HopFailure(Reason.CONNECT_REFUSED, "refused", cause) if cause else None
        outcome = Outcome("attempt", "192.0.2.1", failure, self.time, self.time, hop)
        self.health.report(self.egress(name), ("x.test", 443), "", outcome)

    def enter(self, name: str) -> None:
        route = Route(Choice(self.egress(name)), Pin((name,), None), ("x.test", 443))
        self.standing.enter(route)
        self.kept.append(route)  # an occupancy counts routes by their ids


def test_a_circuit_is_shown_from_its_opening_to_its_close() -> None:
    scene = Scene()
    for _ in range(3):
        scene.attempt("a", Cause.REFUSED)
    scene.time += 1
    shown = scene.states.of("a")
    assert (shown.state, shown.why, shown.since) == (
        ("open", "3 x connect_refused", "2026-01-31T12:00:00.000Z")
    )
    assert shown.retry_at is not None
    assert shown.retry_in_s is not None
    assert 3 <= shown.retry_in_s <= 5
    tried = datetime.fromisoformat(shown.retry_at)
    assert (tried - scene.now).total_seconds() == pytest.approx(shown.retry_in_s, abs=0.06)
    assert why_now(shown).startswith("3 x connect_refused; tried in ")
    scene.time += 6
    half = scene.states.of("a")
    assert (half.state, half.trial, half.retry_in_s) == ("half-open", False, None)
    scene.health.taken(scene.egress("a"))
    assert why_now(scene.states.of("a")) == "3 x connect_refused; it is being tried"
    scene.attempt("a", hop=0.02)
    scene.health.taken(scene.egress("a"))
    scene.attempt("a", hop=0.02)
    good = scene.states.of("a")
    assert (good.state, good.why, good.successes, good.failures) == ("closed", "", 2, 3)
    assert good.ewma_ms is not None
    assert good.last_failure is not None
    assert (good.last_failure.reason, good.last_failure.fault) == ("connect_refused", "proxy")


def test_what_the_proxy_of_an_old_edit_did_is_not_shown() -> None:
    scene = Scene()
    old = scene.egress("a")
    assert scene.states.egress(scene.snapshot.proxies["a"]) == old
    edited = scene.snapshot.proxies["a"].model_copy(update={"port": 99})
    assert scene.states.egress(edited).key != old.key


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from([None, "enter", "wait", "reset", *Cause]),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(EVENTS, st.sampled_from(["watch", "ignore"]))
def test_lists_and_views_say_the_same(events: list[tuple[str, Any]], health: str) -> None:
    """A proxy that is picked is closed or half-open, and no other is."""
    scene = Scene(max_connections=2, health=health)
    for name, event in events:
        if event == "enter":
            scene.enter(name)
        elif event == "wait":
            scene.time += 4
        elif event == "reset":
            done = scene.states.reset(scene.snapshot.proxies[name])
            assert done.state in ("closed", "full")
        else:
            scene.attempt(name, event)
        words = scene.states.words(NAMES)
        assert words == [scene.states.of(one).state for one in NAMES]
        for one, word in zip(NAMES, words, strict=True):
            if scene.standing.is_available(scene.egress(one)):
                assert word in ("closed", "half-open")
            else:
                assert word in ("open", "half-open", "full")
        counted = scene.states.circuits()
        assert (counted.open, counted.half_open) == (words.count("open"), words.count("half-open"))
