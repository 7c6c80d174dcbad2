"""Checks in the background that a test steps, with circuits and a sender made up for it."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from egress_policy.client.dial import OnDial
from egress_policy.client.probe import ProbeResult
from egress_policy.errors import Reason
from egress_policy.management.checks import Checker
from egress_policy.model.decision import Egress, Place
from egress_policy.model.target_url import TargetUrl
from egress_policy.policy.fault import Cause
from egress_policy.policy.health import CircuitState, State
from egress_policy.policy.hop import HopFailure, Outcome
from egress_policy.policy.snapshot import Snapshot
from tests.helpers.checked import snapshot
from tests.helpers.clock import Clock

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
