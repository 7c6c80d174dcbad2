"""The circuits of all proxies: what opens them, who tries them, and that all stays in step."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import Reason
from egress_policy.model.decision import Egress
from egress_policy.model.proxy import Proxy
from egress_policy.policy.fault import JUDGEMENTS, Cause
from egress_policy.policy.health import CircuitEvent, CircuitState, Health
from egress_policy.policy.health.circuit import TRIAL_LIMIT
from egress_policy.policy.health.health import GREETING_PATIENCE
from egress_policy.policy.hop import HopFailure, Outcome, Step, broken, unconnected
from tests.helpers.clock import Clock

TARGET = ("origin.test", 443)


def exit_by(name: str = "home-1", **fields: Any) -> Egress:
    family = fields.pop("target_family", None)
    proxy = Proxy.model_validate({"name": name, "host": f"{name}.test", **fields})
    return Egress(proxy, "auto", family)


def failure(cause: Cause, retry_after: float | None = None) -> HopFailure:
    if cause is Cause.REFUSED:
        return unconnected("127.0.0.1", 80, 111, "")
    return broken(cause.name.lower(), cause, retry_after)


class Steady(random.Random):
    """Chance without jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@dataclass
class Scene:
    """A ``Health`` with a clock of the test. All addresses are loopback: nothing is in doubt."""

    seed: int | None = 1
    events: list[CircuitEvent] = field(default_factory=list)
    back: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock()
        chance = Steady() if self.seed is None else random.Random(self.seed)
        self.health = Health(self.clock, chance, self.events.append)
        self.health.on_return = self.back.append

    def report(
        self,
        egress: Egress,
        why: HopFailure | Cause | None = None,
        *,
        ago: float = 0.1,
        pool: str = "homes",
        target: tuple[str, int] = TARGET,
        step: Step = "attempt",
        hop: float | None = None,
        address: str = "127.0.0.1",
        reused: bool = False,
    ) -> None:
        """An attempt that began ``ago`` seconds ago has ended."""
        now = self.clock()
        why = failure(why) if isinstance(why, Cause) else why
        outcome = Outcome(step, address, why, now - ago, now, hop)
        self.health.report(egress, target, pool, outcome, reused=reused)

    def open(self, egress: Egress, **fields: Any) -> None:
        for _ in range(3):
            self.clock.now += 1
            self.report(egress, Cause.REFUSED, **fields)
        assert self.health.state(egress).state == "open"

    def half_open(self, egress: Egress, **fields: Any) -> None:
        self.open(egress, **fields)
        retry_at = self.health.state(egress).retry_at
        assert retry_at is not None
        self.clock.now = retry_at
        assert self.health.state(egress).state == "half-open"

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


# --- what counts


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_counts_as_the_table_says(cause: Cause) -> None:
    scene, egress = Scene(), exit_by()
    for _ in range(3):
        scene.clock.now += 1
        scene.report(egress, cause)
    state = scene.health.state(egress)
    counts = JUDGEMENTS[cause].counts
    assert state.state == ("open" if counts or cause is Cause.LIMITED else "closed")
    assert state.limited is (cause is Cause.LIMITED)
    assert scene.health.is_available(egress) is (state.state == "closed")
    assert egress.proxy is not None
    assert egress.proxy.status == "active"  # a person's word


@pytest.mark.parametrize(
    "fields",
    [{"step": "dial"}, {"reused": True}],
    ids=["a dial is part of an attempt", "a kept connection may end at any time"],
)
def test_what_is_no_attempt_is_no_strike(fields: dict[str, Any]) -> None:
    scene, egress = Scene(), exit_by()
    for _ in range(9):
        scene.report(egress, Cause.REFUSED, **fields)
    assert scene.health.state(egress) == CircuitState()


def test_a_direct_egress_has_no_circuit() -> None:
    scene, direct = Scene(), Egress(None)
    for _ in range(9):
        scene.report(direct, Cause.REFUSED)
    scene.health.taken(direct)
    assert scene.health.is_available(direct)
    assert scene.health.refusal(direct) is None


def test_a_proxy_whose_health_is_ignored_has_counters_and_no_circuit() -> None:
    scene, egress = Scene(), exit_by(health="ignore")
    scene.report(egress, None, hop=0.2)
    for _ in range(9):
        scene.report(egress, Cause.REFUSED)
    state = scene.health.state(egress)
    assert (state.state, state.successes, state.failures) == ("closed", 1, 9)
    assert scene.health.is_available(egress)
    assert scene.health.cost(egress) == 1.0
    assert scene.events == []


def test_a_circuit_that_was_open_does_not_bind_a_proxy_that_is_now_ignored() -> None:
    scene, egress = Scene(), exit_by()
    scene.open(egress)
    ignored = exit_by(health="ignore")
    assert ignored.hop_key == egress.hop_key
    assert scene.health.is_available(ignored)
    assert scene.health.state(ignored).state == "closed"


def test_one_circuit_serves_all_target_families_of_a_proxy() -> None:
    scene, egress = Scene(), exit_by()
    scene.open(exit_by(target_family="ipv6"))
    assert not scene.health.is_available(egress)
    assert not scene.health.is_available(exit_by(target_family="ipv4"))
    assert scene.health.is_available(exit_by(port=81))  # as it was edited


def test_credentials_are_not_sent_again_for_five_minutes() -> None:
    scene, egress = Scene(), exit_by()
    for _ in range(3):
        scene.report(egress, Cause.CREDENTIALS, hop=0.1)
    refusal = scene.health.refusal(egress)
    assert refusal is not None
    assert (refusal.retry_after or 0) >= 300


def test_an_undecided_failure_counts_once_the_target_works_through_another_member() -> None:
    scene, egress, other = Scene(), exit_by(), exit_by("home-2")
    for _ in range(3):
        scene.clock.now += 1
        scene.report(egress, Cause.UNDECIDED, hop=0.05)
        assert scene.health.state(egress).state == "closed"
        scene.clock.now += 0.1
        scene.report(other)  # the fail-over right behind
    assert scene.health.state(egress).state == "open"
    assert scene.health.state(other).state == "closed"


@pytest.mark.parametrize(("pool", "state"), [("homes", "open"), ("", "closed")])
def test_a_proxy_outside_a_pool_is_never_blamed_for_it(pool: str, state: str) -> None:
    scene, egress, other = Scene(), exit_by(), exit_by("home-2")
    for _ in range(5):
        scene.clock.now += 1
        scene.report(egress, Cause.UNDECIDED, pool=pool)
        scene.clock.now += 0.1
        scene.report(other)
    assert scene.health.state(egress).state == state


# --- what is said


def test_a_refusal_says_why_and_for_how_long() -> None:
    scene, egress = Scene(), exit_by()
    scene.open(egress)
    refusal = scene.health.refusal(egress)
    assert refusal is not None
    assert (refusal.reason, refusal.proxy, refusal.fault) == (
        Reason.CIRCUIT_OPEN,
        "home-1",
        "proxy",
    )
    assert refusal.detail.startswith("Proxy home-1 is left alone for another ")
    assert " s: 3 x connect_refused; refusing" in refusal.detail
    assert refusal.retry_after
    scene.clock.now += refusal.retry_after
    assert scene.health.refusal(egress) is None
    scene.health.taken(egress)
    refusal = scene.health.refusal(egress)
    assert refusal is not None
    assert "is being tried again after it failed: 3 x connect_refused" in refusal.detail
    assert refusal.retry_after == 1.0


def test_the_life_of_a_circuit_is_told() -> None:
    scene, egress = Scene(), exit_by()
    scene.half_open(egress)
    scene.health.taken(egress)
    scene.report(egress, Cause.REFUSED, ago=0)
    state = scene.health.state(egress)
    assert (state.state, state.why) == ("open", "a trial failed: connect_refused")
    scene.clock.now = state.retry_at or 0
    for _ in range(2):
        scene.health.taken(egress)
        scene.report(egress, ago=0)
    assert scene.kinds() == ["opened", "half-open", "opened", "half-open", "closed"]
    assert [event.again for event in scene.events] == [False, False, True, False, False]
    assert scene.events[0].why == "3 x connect_refused"
    assert all(event.egress is egress for event in scene.events)


def test_a_pause_is_told_as_such() -> None:
    scene, egress = Scene(), exit_by()
    scene.report(egress, failure(Cause.LIMITED, 30.0))
    scene.clock.now += 31
    assert scene.health.is_available(egress)
    assert scene.kinds() == ["limited", "closed"]
    assert scene.events[0].why == "it asked for a pause of 30 s"


def test_each_return_is_told_once() -> None:
    scene, egress = Scene(), exit_by()
    scene.half_open(egress)
    assert scene.back == [egress.hop_key]
    scene.health.taken(egress)
    scene.report(egress, ago=0)
    scene.health.wake()
    assert scene.back == 2 * [egress.hop_key]
    scene.health.taken(egress)
    scene.clock.now += TRIAL_LIMIT  # nobody reports
    assert len(scene.back) == 2
    scene.health.wake()
    assert scene.back == 3 * [egress.hop_key]


# --- greetings


def test_a_greeting_is_due_where_it_tells_enough() -> None:
    scene, refused, answered = Scene(), exit_by(), exit_by("home-2")
    scene.health.greets = True
    scene.open(answered, hop=0.1)
    scene.open(refused)
    scene.clock.now += 8
    assert scene.health.due() == [refused]
    assert not scene.health.is_available(refused)
    assert scene.health.is_available(answered)  # only a live connection shows more
    for _ in range(2):
        scene.health.taken(refused)
        assert scene.health.due() == []
        scene.report(refused, ago=0, pool="")
    assert scene.health.state(refused).state == "closed"
    assert scene.health.is_available(refused)


def test_the_proxy_that_has_waited_longest_is_greeted_first() -> None:
    scene, later, sooner = Scene(seed=None), exit_by("a"), exit_by("b")
    scene.health.greets = True
    scene.open(sooner)
    scene.open(later)
    scene.clock.now += 10
    assert scene.health.due() == [sooner, later]


def test_without_greetings_a_live_connection_is_the_trial() -> None:
    scene, egress = Scene(), exit_by()
    scene.half_open(egress)
    assert scene.health.due() == []
    assert scene.health.is_available(egress)
    scene.health.greets = True
    assert scene.health.due() == [egress]
    assert not scene.health.is_available(egress)
    scene.health.greets = False
    assert scene.health.is_available(egress)


def test_a_greeting_that_does_not_come_leaves_the_trial_to_a_live_connection() -> None:
    scene, egress = Scene(), exit_by()
    scene.health.greets = True
    scene.half_open(egress)
    scene.clock.now += GREETING_PATIENCE - 0.1
    assert not scene.health.is_available(egress)
    scene.clock.now += 0.2
    assert scene.health.is_available(egress)
    assert scene.health.due() == []


# --- a person, and edits


def test_a_reset_closes_a_circuit() -> None:
    scene, egress = Scene(), exit_by()
    assert not scene.health.reset(egress.hop_key)
    scene.open(egress)
    assert scene.health.reset(egress.hop_key)
    assert scene.health.is_available(egress)
    assert not scene.health.reset(egress.hop_key)
    assert scene.kinds() == ["opened", "reset"]


def test_what_the_policy_has_no_more_is_forgotten() -> None:
    scene, kept, dropped = Scene(), exit_by(), exit_by("home-2")
    scene.open(kept)
    scene.open(dropped)
    scene.health.keep(lambda one: one.hop_key == kept.hop_key)
    assert not scene.health.is_available(kept)
    assert scene.health.state(dropped) == CircuitState()
    scene.clock.now += 700
    assert scene.health.is_available(kept)
    assert [event.egress for event in scene.events if event.kind == "half-open"] == [kept]


# --- any order of events


NAMES = ("home-1", "home-2", "home-3")


class Model:
    """The rules once more, naively: all that happened to a proxy is kept and looked at again."""

    def __init__(self, born: float) -> None:
        self.log: list[tuple[float, str, float, float | None]] = []
        self.born = born

    def note(self, at: float, what: str, began: float = 0.0, seconds: float | None = None) -> None:
        self.log.append((at, what, began, seconds))

    def at(self, now: float) -> tuple[str, bool]:
        """The state, and whether a pick may have the proxy."""
        state, until, after, since = "closed", 0.0, "half-open", self.born
        down, shut, good, opened = -1e9, -1e9, -1e9, -1e9
        good_news, trial = 0, None
        run: list[tuple[float, float]] = []
        recent: list[tuple[float, bool]] = []

        def pass_time(at: float) -> None:
            nonlocal state, since, trial, good_news, run, recent
            if state == "open" and at >= until:
                state, since, trial = after, until, None
                if after == "closed":
                    run, recent = [], []
            if trial is not None and at >= trial + TRIAL_LIMIT:
                trial = None

        def trip(at: float, trusted: bool) -> None:
            nonlocal state, until, after, since, down, opened, run, recent, good_news, trial
            rest = max(8.0, min(600.0, 0.25 * (at - down)))
            if trusted and at - shut > 60:
                down, rest = at, 5.0
            elif trusted and down == at:
                rest = 5.0
            left = until if state == "open" and after == "closed" else at
            state, until, after, since, opened = "open", max(at + rest, left), "half-open", at, at
            run, recent, good_news, trial = [], [], 0, None

        for at, what, began, seconds in self.log:
            pass_time(at)
            trusted = state == "closed" or (state == "open" and after == "closed")
            if what == "taken" and state == "half-open" and trial is None:
                trial = at
            elif what == "reset":
                state, run, recent, good_news, trial = "closed", [], [], 0, None
                good, shut, since = at, -1e9, at
            elif what == "success":
                good = max(good, began)
                run = [one for one in run if one[1] > began]
                if trusted:
                    recent.append((at, False))
                    continue
                if trial is not None and began >= trial:
                    trial = None
                if began < opened:
                    continue
                good_news += 1
                if good_news == 2:
                    state, since, shut, run, recent, good_news = "closed", at, at, [], [], 0
                    trial = None
                elif state == "open":
                    state, since, trial = "half-open", at, None
            elif what in ("strike", "limited", "nothing"):
                if trial is not None and began >= trial:
                    trial = None
                if what == "nothing" or began < good:
                    continue
                if what == "limited":
                    pause = min(max(60.0 if seconds is None else seconds, 1.0), 3600.0)
                    if state == "open":
                        until = max(until, at + pause)
                    else:
                        after = "closed" if state == "closed" else "half-open"
                        state, until, since, trial = "open", at + pause, at, None
                elif trusted:
                    run = [*run, (at, began)][-3:]
                    recent.append((at, True))
                    of = [bad for then, bad in recent if then // 10 > at // 10 - 6]
                    in_a_row = len(run) == 3 and at - run[0][0] <= 60
                    if in_a_row or (len(of) >= 10 and sum(of) * 2 >= len(of)):
                        trip(at, trusted)
                elif state == "half-open" and began >= since:
                    trip(at, trusted)
        pass_time(now)
        return state, state == "closed" or (state == "half-open" and trial is None)


names = st.sampled_from(NAMES)
ago = st.sampled_from([0.0, 0.0, 0.1, 2.0, 8.0, 40.0])
steps = st.one_of(
    st.tuples(st.just("strike"), names, ago),
    st.tuples(st.just("strike"), names, ago),
    st.tuples(st.just("strike"), names, ago),
    st.tuples(st.just("success"), names, ago),
    st.tuples(st.just("nothing"), names, ago),
    st.tuples(st.just("limited"), names, st.sampled_from([None, 0.0, 3.0, 90.0])),
    st.tuples(st.just("taken"), names, st.none()),
    st.tuples(st.just("reset"), names, st.none()),
    st.tuples(st.just("keep"), st.sets(names), st.none()),
    st.tuples(st.just("wait"), st.none(), st.sampled_from([0.1, 1.0, 4.0, 6.0, 9.0, 31.0, 300.0])),
)


def play(scene: Scene, step: tuple[str, Any, Any], models: dict[str, Model]) -> None:
    what, name, number = step
    now = scene.clock()
    if what == "wait":
        scene.clock.now += number
        return
    if what == "keep":
        left = {exit_by(one).hop_key for one in name}
        scene.health.keep(lambda one: one.hop_key in left)
        for one in set(NAMES) - name:
            models.pop(one, None)
        return
    egress = exit_by(name)
    if what in ("taken", "reset"):
        if what == "taken":
            scene.health.taken(egress)
        else:
            scene.health.reset(egress.hop_key)
        if name in models:
            models[name].note(now, what)
        return
    models.setdefault(name, Model(now))
    if what == "limited":
        scene.report(egress, failure(Cause.LIMITED, number), ago=0)
        models[name].note(now, what, now, number)
        return
    why = {"strike": Cause.REFUSED, "success": None, "nothing": Cause.NOBODY}[what]
    scene.report(egress, why, ago=number)
    models[name].note(now, what, now - number)


@given(st.lists(steps, max_size=60))
def test_any_order_of_events_leaves_all_in_step(script: list[tuple[str, Any, Any]]) -> None:
    scene, models = Scene(seed=None), dict[str, Model]()
    for step in script:
        play(scene, step, models)
        now = scene.clock()
        for name in NAMES:
            egress = exit_by(name)
            expected = models[name].at(now) if name in models else ("closed", True)
            available = scene.health.is_available(egress)
            assert (scene.health.state(egress).state, available) == expected
            assert (scene.health.refusal(egress) is None) is available
        in_step(scene.health)


def in_step(health: Health) -> None:
    """What is kept beside the circuits agrees with them."""
    wakes = health._wakes
    assert all(wakes[(n - 1) // 2] <= wakes[n] for n in range(1, len(wakes)))
    assert health._next == (wakes[0][0] if wakes else float("inf"))
    assert len(wakes) <= 2 * len(health._records) + 64
    for key, record in health._records.items():
        circuit = record.circuit
        assert record.wakes_at is None or (record.wakes_at, key) in wakes
        assert circuit.wakes_at is None or record.wakes_at is not None
        assert (circuit.state == "open") is (circuit.retry_at is not None)
        assert circuit.trial is None or circuit.state == "half-open"
        if circuit.state == "closed":
            assert key not in health._unavailable
    assert health._unavailable | health._greetable <= health._records.keys()


@given(st.integers(0, 2**32), st.booleans())
def test_at_most_one_trial_at_a_time(seed: int, greets: bool) -> None:
    """Whoever asks before leaving leaves alone while a circuit is half-open."""
    scene, rng = Scene(seed), random.Random(seed)
    scene.health.greets = greets
    egress, trials = exit_by(), list[float]()
    scene.open(egress)
    for _ in range(200):
        scene.clock.now += rng.choice([0.0, 0.1, 1.0, 5.0])
        now = scene.clock()
        trials = [at for at in trials if now < at + TRIAL_LIMIT]
        half_open = scene.health.state(egress).state == "half-open"
        may = scene.health.is_available(egress) or egress in scene.health.due()
        if may and rng.random() < 0.7:
            assert not (half_open and trials)
            scene.health.taken(egress)
            if half_open:
                trials.append(now)
        elif trials and rng.random() < 0.5:
            began = trials.pop()
            scene.report(egress, rng.choice([None, Cause.REFUSED, Cause.TARGET]), ago=now - began)
        elif not half_open:
            trials.clear()
            scene.report(egress, Cause.REFUSED, ago=0)


@given(st.lists(steps, max_size=40), st.integers(0, 2**32))
def test_equal_seeds_and_events_give_equal_times(
    script: list[tuple[str, Any, Any]], seed: int
) -> None:
    told = []
    for _ in range(2):
        scene = Scene(seed)
        for step in script:
            play(scene, step, {})
        told.append([(event.at, event.kind, event.why) for event in scene.events])
    assert told[0] == told[1]


@given(st.lists(steps, max_size=40))
def test_when_it_is_asked_changes_nothing(script: list[tuple[str, Any, Any]]) -> None:
    asked, unasked = Scene(), Scene()
    for step in script:
        play(asked, step, {})
        for name in NAMES:
            asked.health.is_available(exit_by(name))
        play(unasked, step, {})
    for name in NAMES:
        assert asked.health.state(exit_by(name)) == unasked.health.state(exit_by(name))
