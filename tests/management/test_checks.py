"""The scheduler of checks: who is greeted and checked, and what is reported of it.

Decisions are by a simulated clock and a sender that answers at once; what is sent is shown with
real proxies.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from egress_policy.client.dial import OnDial
from egress_policy.client.probe import ProbeResult
from egress_policy.dns.resolver import DnsResolver
from egress_policy.errors import Reason
from egress_policy.management.checks import Checker
from egress_policy.management.in_force import PolicyInForce, closed_snapshot
from egress_policy.management.prober import Prober
from egress_policy.model.decision import Egress, Place
from egress_policy.model.target_url import TargetUrl
from egress_policy.policy.circuit import State
from egress_policy.policy.fault import Cause
from egress_policy.policy.health import Health
from egress_policy.policy.hop import HopFailure, Outcome
from egress_policy.policy.snapshot import Snapshot
from egress_policy.policy.track_record import CircuitState
from egress_policy.router import EgressRouter
from tests.client.scene import CREDENTIALS, PATIENT, EchoOrigin, lab_proxy, trusting
from tests.helpers.checked import URLS, proxy, snapshot
from tests.helpers.clock import Clock
from tests.helpers.filters import compile_word

REFUSED = HopFailure(Reason.CONNECT_REFUSED, "it is down", Cause.REFUSED)


@dataclass
class Held:
    state: State = "closed"
    successes: int = 0
    trial: bool = False
    limited: bool = False
    last: HopFailure | None = None


@dataclass
class FakeCircuits:
    """Circuits that close after two successes, and open at a failure. Names stand for proxies."""

    held: dict[str, Held] = field(default_factory=dict)
    greets: bool = False
    egresses: dict[str, Egress] = field(default_factory=dict)
    most_trials: int = 0

    def put(self, state: State, *egresses: Egress) -> None:
        for egress in egresses:
            self.egresses[egress.name] = egress
            self.held[egress.name] = Held(state)

    def due(self) -> list[Egress]:
        return [
            self.egresses[name]
            for name, one in self.held.items()
            if one.state == "half-open" and not one.trial
        ]

    def taken(self, egress: Egress) -> None:
        one = self.held[egress.name]
        assert not one.trial, "a second trial"
        one.trial = True

    def state(self, egress: Egress) -> CircuitState:
        one = self.held.get(egress.name, Held())
        return CircuitState(one.state, trial=one.trial, limited=one.limited, last_failure=one.last)

    def report(self, egress: Egress, outcome: Outcome) -> None:
        one = self.held.setdefault(egress.name, Held())
        one.trial = False
        if outcome.failure is None:
            one.successes += 1
            if one.successes >= 2:
                one.state = "closed"
        elif outcome.failure.judgement.counts:
            one.state, one.successes = "open", 0


@dataclass
class FakeSender:
    """Answers at once. ``failures`` are by the name of the proxy; ``hold`` keeps all waiting."""

    failures: dict[str, HopFailure] = field(default_factory=dict)
    hold: asyncio.Event | None = None
    sent: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200
    breaks: bool = False
    clock: Clock = field(default_factory=Clock)

    async def greet(self, egress: Egress, on_dial: OnDial) -> Outcome:
        self.sent.append(("greet", egress.name))
        if self.hold:
            await self.hold.wait()
        if self.breaks:
            raise RuntimeError("a fault of ours")
        failure = self.failures.get(egress.name)
        now, hop = self.clock(), None if failure else 0.1
        return Outcome("attempt", "192.0.2.1", failure, now, now, hop)

    async def probe(self, egress: Egress, url: TargetUrl, on_dial: OnDial) -> ProbeResult:
        self.sent.append((url.host, egress.name))
        if self.hold:
            await self.hold.wait()
        failure = self.failures.get(egress.name)
        status = None if failure else self.status
        return ProbeResult(address="192.0.2.1", status=status, failure=failure, hop_ms=100.0)


@dataclass
class Policy:
    snapshot: Snapshot
    problem: str = ""


@dataclass
class Scene:
    """Checks that are stepped by a test, and what they do."""

    policy: Policy
    clock: Clock = field(default_factory=lambda: Clock(0.0))
    circuits: FakeCircuits = field(default_factory=FakeCircuits)
    sender: FakeSender = field(default_factory=FakeSender)
    reported: list[tuple[str, Place, str, Outcome]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sender.clock = self.clock
        self.checks = Checker(
            self.policy, self.sender, self.circuits, self.report, self.clock, random.Random(1)
        )

    def report(self, egress: Egress, target: Place, pool: str, outcome: Outcome) -> None:
        self.reported.append((egress.name, target, pool, outcome))
        self.circuits.report(egress, outcome)

    async def go(self, seconds: float) -> None:
        """Let time pass."""
        until = self.clock.now + seconds
        while True:
            delay = self.checks.step()
            before = len(self.reported)
            await settle()
            if len(self.reported) > before:
                continue  # something ended, which wakes the task
            if self.clock.now + delay > until:
                self.clock.now = until
                return
            self.clock.now += max(delay, 0.001)

    def egress(self, name: str) -> Egress:
        proxy = self.policy.snapshot.proxies[name]
        return Egress(proxy, proxy.family)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def place(count: int = 3, checks: dict[str, Any] | None = None, **policy: Any) -> Scene:
    if checks is None and "pools" not in policy:
        policy["pools"] = [{"name": "homes", "members": [f"p{n}" for n in range(count)]}]
    return Scene(Policy(snapshot(count, checks, **policy)))


# -- greetings


async def test_half_open_proxy_is_greeted_twice_at_once_and_is_back() -> None:
    subject = place()
    await subject.go(5)
    assert subject.sender.sent == []
    subject.circuits.put("half-open", subject.egress("p1"))
    await subject.go(0.5)
    assert subject.sender.sent == [("greet", "p1")] * 2
    assert subject.circuits.held["p1"].state == "closed"
    assert [found[:3] for found in subject.reported] == [("p1", ("p1.test", 8080), "homes")] * 2
    await subject.go(60)
    assert len(subject.sender.sent) == 2


async def test_failed_greeting_is_not_repeated_at_once() -> None:
    subject = place()
    subject.sender.failures["p1"] = REFUSED
    subject.circuits.put("half-open", subject.egress("p1"))
    await subject.go(10)
    assert subject.sender.sent == [("greet", "p1")]
    assert subject.circuits.held["p1"].state == "open"
    assert subject.checks.outcomes == {"failed": 1}


async def test_pool_whose_members_are_all_dead_has_one_greeting_a_second() -> None:
    subject = place(20)
    subject.sender.failures = {f"p{number}": REFUSED for number in range(20)}
    for _ in range(30):
        dead = [subject.egress(f"p{number}") for number in range(20)]
        subject.circuits.put("half-open", *dead)
        await subject.go(1)
    assert 29 <= len(subject.sender.sent) <= 31


async def test_ten_thousand_dead_members_cause_no_more_than_twenty_a_second() -> None:
    subject = place(10_000)
    names = [f"p{number}" for number in range(10_000)]
    subject.sender.failures = dict.fromkeys(names, REFUSED)
    subject.circuits.put("half-open", *map(subject.egress, names))
    seen = 0
    for _ in range(5):
        await subject.go(1)
        assert 10 <= len(subject.sender.sent) - seen <= 20
        seen = len(subject.sender.sent)


async def test_greetings_that_follow_at_once_count_too() -> None:
    subject = place(10_000)
    subject.circuits.put("half-open", *(subject.egress(f"p{number}") for number in range(10_000)))
    await subject.go(10)
    assert 150 <= len(subject.sender.sent) <= 200


@pytest.mark.parametrize("fields", [{"status": "inactive"}, {"username": "u"}], ids=str)
async def test_edited_or_inactive_proxy_is_not_greeted(fields: dict[str, Any]) -> None:
    subject = place(1)
    subject.circuits.put("half-open", subject.egress("p0"))
    subject.policy.snapshot = place(1, proxies=[proxy("p0", **fields)]).policy.snapshot
    await subject.go(10)
    assert subject.sender.sent == []


async def test_while_everything_is_refused_nothing_is_sent() -> None:
    subject = place(1, {"every": 1, "members": "all"})
    subject.circuits.put("half-open", subject.egress("p0"))
    subject.policy = Policy(closed_snapshot(), "the policy file is broken")
    subject.__post_init__()
    await subject.go(10)
    assert subject.sender.sent == []


async def test_edit_ends_what_is_under_way_for_a_proxy_that_it_takes_out() -> None:
    subject = place(2)
    subject.sender.hold = asyncio.Event()
    subject.circuits.put("half-open", subject.egress("p0"))
    await subject.go(0.5)
    assert subject.checks.status().running == 1
    subject.policy.snapshot = place(2, proxies=[proxy("p0", status="inactive")]).policy.snapshot
    await subject.go(0.5)
    assert subject.checks.status().running == 0
    assert not subject.circuits.held["p0"].trial
    assert subject.checks.outcomes == {"untried": 1}


async def test_fault_of_ours_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = place()
    subject.sender.breaks = True
    subject.circuits.put("half-open", subject.egress("p0"))
    with caplog.at_level(logging.ERROR):
        await subject.go(0.1)
    assert "greeting of proxy p0 went wrong" in caplog.text
    assert not subject.circuits.held["p0"].trial
    subject.sender.breaks = False
    await subject.go(5)
    assert subject.circuits.held["p0"].state == "closed"


# -- checks that pools ask for


async def test_without_checks_nobody_is_checked() -> None:
    subject = place()
    subject.circuits.put("open", subject.egress("p0"))
    await subject.go(300)
    assert subject.sender.sent == []


async def test_only_members_that_are_down_are_checked_unless_all_are_wanted() -> None:
    subject = place(3, {"every": 10})
    subject.circuits.put("open", subject.egress("p1"))
    await subject.go(13)
    assert set(subject.sender.sent) == {("greet", "p1")}
    subject = place(3, {"every": 10, "members": "all"})
    await subject.go(13)
    assert {name for _, name in subject.sender.sent} == {"p0", "p1", "p2"}


async def test_url_is_asked_for_through_the_member_and_its_status_judged() -> None:
    subject = place(1, {"every": 10, "members": "all", "url": URLS, "expect": "204"})
    await subject.go(10)
    assert subject.sender.sent == [("one.test", "p0")]
    name, target, pool, outcome = subject.reported[0]
    assert (name, target, pool) == ("p0", ("one.test", 80), "homes")
    assert outcome.hop == 0.1
    assert outcome.failure
    assert outcome.failure.cause is Cause.UNDECIDED
    assert outcome.failure.what == "the check was answered 200, not 204"
    subject.sender.status = 204
    await subject.go(12)
    assert subject.reported[1][3].failure is None
    assert subject.checks.outcomes == {"undecided": 1, "ok": 1}


async def test_traffic_replaces_a_check() -> None:
    subject = place(2, {"every": 10, "members": "all"})
    await subject.go(0)
    for _ in range(60):
        subject.checks.saw(subject.egress("p0"))
        await subject.go(1)
    assert {name for _, name in subject.sender.sent} == {"p1"}
    assert subject.checks.outcomes["replaced"] >= 4
    await subject.go(23)
    assert ("greet", "p0") in subject.sender.sent


async def test_half_open_member_is_not_checked_beside_its_trial() -> None:
    subject = place(1, {"every": 1, "url": URLS})
    subject.sender.hold = asyncio.Event()
    subject.circuits.put("half-open", subject.egress("p0"))
    await subject.go(10)
    assert subject.sender.sent == [("greet", "p0")]
    subject.sender.hold.set()
    await settle()


@pytest.mark.parametrize("harm", ["limited", "credentials"])
async def test_member_that_a_check_would_harm_is_left_alone(harm: str) -> None:
    subject = place(1, {"every": 1, "url": URLS})
    subject.circuits.put("open", subject.egress("p0"))
    held = subject.circuits.held["p0"]
    held.limited = harm == "limited"
    if harm == "credentials":
        held.last = HopFailure(Reason.PROXY_AUTH, "wrong password", Cause.CREDENTIALS)
    await subject.go(10)
    assert subject.sender.sent == []
    held.limited, held.last = False, REFUSED
    await subject.go(2)
    assert subject.sender.sent[0] == ("one.test", "p0")


async def test_edit_holds_for_the_next_check_and_for_the_one_under_way() -> None:
    subject = place(2, {"every": 10, "members": "all"})
    subject.sender.hold = asyncio.Event()
    await subject.go(10)
    assert subject.checks.status().running == 2
    edited = snapshot(
        2, {"every": 10, "members": "all"}, proxies=[proxy("p0", notes="x"), proxy("p1", port=81)]
    )
    subject.policy.snapshot = edited
    await subject.go(0.5)
    assert [found[0] for found in subject.reported] == ["p1"]  # what it was is no longer in force
    assert subject.checks.status().running == 1


async def test_late_checks_show_as_a_lag() -> None:
    subject = place(100, {"every": 1, "members": "all", "url": {"ipv4": URLS["ipv4"]}})
    await subject.go(10)
    assert 8 < subject.checks.lag <= 10
    assert subject.checks.status().scheduled == 100
    assert subject.checks.status().lag_s == round(subject.checks.lag, 1)
    assert 36 <= len(subject.sender.sent) <= 41


# -- the task, and real proxies


def real(found: Snapshot) -> tuple[Checker, FakeCircuits, list[Outcome]]:
    """Checks that send, what they know, and what they report."""
    in_force = PolicyInForce(EgressRouter(found, DnsResolver()), compile_word)
    circuits, reported = FakeCircuits(), list[Outcome]()

    def report(egress: Egress, _target: Place, _pool: str, outcome: Outcome) -> None:
        reported.append(outcome)
        if outcome.step == "attempt":
            circuits.report(egress, outcome)

    prober = Prober(in_force, trusting, PATIENT)
    return Checker(Policy(found), prober, circuits, report), circuits, reported


@pytest.mark.parametrize("type_", ["http", "https", "socks5"])
async def test_real_proxy_comes_back_after_two_greetings(type_: str) -> None:
    async with lab_proxy(type_, {}, credentials=CREDENTIALS) as server:
        fields = {"type": type_, "host": "127.0.0.1", "port": server.port}
        if type_ == "https":
            fields["host"] = "localhost"
        exit_ = proxy("exit", **fields, username=CREDENTIALS[0], password=CREDENTIALS[1])
        found = snapshot(proxies=[exit_], pools=[{"name": "homes", "members": ["exit"]}])
        checks, circuits, reported = real(found)
        circuits.put("half-open", Egress(found.proxies["exit"]))
        checks.start()
        assert circuits.greets
        await server.until(lambda: server.accepted == 2 and not server.open)
        await checks.aclose()
    assert not circuits.greets
    assert [(outcome.step, outcome.failure) for outcome in reported] == [
        ("dial", None),
        ("attempt", None),
    ] * 2
    assert all(outcome.hop for outcome in reported if outcome.step == "attempt")
    assert server.requests == []


async def test_closing_ends_what_is_under_way() -> None:
    async with EchoOrigin() as origin, lab_proxy("socks5", {"origin.test": origin.address}) as one:
        fields = {"type": "socks5", "host": "127.0.0.1", "port": one.port}
        url = origin.url("origin.test", "/hold")
        how = {"every": 1, "members": "all", "url": {"ipv4": url}}
        pools = [{"name": "homes", "members": ["exit"], "checks": how}]
        checks, _, reported = real(snapshot(proxies=[proxy("exit", **fields)], pools=pools))
        checks.start()
        checks.start()
        await origin.until(lambda: origin.requests)
        await checks.aclose()
        origin.release.set()
        await one.until(lambda: not one.open)
        attempts = [one for one in reported if one.step == "attempt"]
        assert [one.failure and one.failure.cause for one in attempts] == [Cause.NOBODY]
        await checks.aclose()


async def test_a_step_that_fails_is_logged_and_the_next_one_is_made(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, steps = place(), asyncio.Event()

    def step() -> float:
        if caplog.records:
            steps.set()
            return 3600.0
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(subject.checks, "step", step)
    monkeypatch.setattr("egress_policy.management.checks._AFTER_ERROR", 0.0)
    with caplog.at_level(logging.ERROR):
        subject.checks.start()
        await asyncio.wait_for(steps.wait(), 10)
    assert "they go on" in caplog.text
    await subject.checks.aclose()


def with_health(subject: Scene, on_event: Callable[[str], None] = lambda _: None) -> Health:
    """The scene with the real circuits, by its simulated clock."""
    health = Health(subject.clock, random.Random(1), lambda event: on_event(event.kind))
    subject.checks = Checker(
        subject.policy, subject.sender, health, health.report, subject.clock, random.Random(1)
    )
    health.greets = True
    return health


def kill(subject: Scene, health: Health, egress: Egress) -> None:
    subject.sender.failures[egress.name] = REFUSED
    for _ in range(3):
        now = subject.clock.now
        said = Outcome("attempt", "192.0.2.1", REFUSED, now, now)
        health.report(egress, ("x.test", 1), "homes", said)


async def a_moment(subject: Scene) -> None:
    subject.checks.step()
    await settle()
    subject.clock.now += 0.25


async def test_a_member_that_died_is_used_again_soon_after_it_is_back() -> None:
    subject, kinds = place(3), list[str]()
    health = with_health(subject, kinds.append)
    dead, died = subject.egress("p1"), subject.clock.now
    kill(subject, health, dead)
    while subject.clock.now < died + 120:
        await a_moment(subject)
        assert not health.is_available(dead)
    back = subject.clock.now
    del subject.sender.failures["p1"]
    while not health.is_available(dead):
        await a_moment(subject)
    assert subject.clock.now - back <= 0.3 * (back - died)
    assert 5 <= len(subject.sender.sent) <= 20
    assert kinds[-2:] == ["half-open", "closed"]


@pytest.mark.parametrize("count", [5, 100])
async def test_dead_members_get_no_live_connection_and_one_greeting_a_second(count: int) -> None:
    subject = place(count)
    health = with_health(subject)
    dead = [subject.egress(f"p{number}") for number in range(count)]
    for egress in dead:
        kill(subject, health, egress)
    for _ in range(4 * 300):
        await a_moment(subject)
        assert not any(map(health.is_available, dead))
    assert len(subject.sender.sent) <= 300
    greeted = {name for _, name in subject.sender.sent}
    assert len(greeted) == count
