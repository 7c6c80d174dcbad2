"""How one proxy fares: its circuit, what its hop costs, and what failed last. Pure.

``health.py`` keeps the records of all proxies.
"""

from dataclasses import dataclass, replace
from typing import Literal

from ...model.decision import Egress
from ..hop import HopFailure, Outcome
from .circuit import Circuit, State
from .hop_time import HopTime

CircuitEventKind = Literal[
    "opened", "limited", "half-open", "closed", "reset", "own-network", "own-network-up"
]


@dataclass(frozen=True, slots=True)
class CircuitEvent:
    """What happened to a circuit, or without an ``egress`` to our own network. ``at`` is the time
    in seconds on the monotonic clock, ``why`` is a clause for people. ``again``: a trial failed,
    and the proxy is as dead as before. With thousands of dead proxies there are many of these."""

    at: float
    egress: Egress | None
    kind: CircuitEventKind
    why: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class CircuitState:
    """How a proxy fares. Times are seconds on the monotonic clock; ``since`` is ``None`` where
    nothing has happened yet. ``trial``: its one trial is under way. ``ewma`` is what the hop costs
    in seconds, ``None`` if that is unknown."""

    state: State = "closed"
    retry_at: float | None = None
    since: float | None = None
    why: str = ""
    limited: bool = False
    trial: bool = False
    successes: int = 0
    failures: int = 0
    ewma: float | None = None
    last_failure: HopFailure | None = None


class TrackRecord:
    """The record of one proxy, as it was edited. Times are seconds on the monotonic clock."""

    __slots__ = (
        "circuit",
        "egress",
        "failures",
        "last_failure",
        "successes",
        "time",
        "told",
        "wakes_at",
    )

    def __init__(self, egress: Egress, circuit: Circuit) -> None:
        self.egress, self.circuit, self.time = egress, circuit, HopTime()
        self.successes = self.failures = 0
        self.last_failure: HopFailure | None = None
        self.told: tuple[State, float] = circuit.state, circuit.since
        """The state of the circuit that everybody knows of, and since when it is so."""
        self.wakes_at: float | None = None

    def count(self, outcome: Outcome, now: float) -> None:
        """Take in what came of an attempt, apart from the circuit."""
        failure = outcome.failure
        if outcome.hop is not None:
            self.time.measured(outcome.hop, now)
        if failure is None:
            self.successes += 1
        elif failure.judgement.fault in ("proxy", "undecided"):
            self.failures += 1
            self.last_failure = failure
            if failure.judgement.counts:
                self.time.failed(outcome.ended - outcome.began, now)

    def state(self, now: float, *, watched: bool) -> CircuitState:
        """How the proxy fares; without its circuit if that is not ``watched``."""
        known = CircuitState(
            successes=self.successes,
            failures=self.failures,
            ewma=self.time.seconds(now),
            last_failure=self.last_failure,
        )
        if not watched:
            return known
        circuit = self.circuit
        return replace(
            known,
            state=circuit.state,
            retry_at=circuit.retry_at,
            since=circuit.since,
            why=circuit.why,
            limited=circuit.limited,
            trial=circuit.trial is not None,
        )

    def news(self) -> CircuitEvent | None:
        """A state of the circuit that was not told of before."""
        circuit = self.circuit
        told = circuit.state, circuit.since
        if told == self.told:
            return None
        before, self.told = self.told[0], told
        again = (before, circuit.state) == ("half-open", "open") and not circuit.limited
        kind: CircuitEventKind = circuit.state if circuit.state != "open" else "opened"
        if circuit.limited:
            kind = "limited"
        return CircuitEvent(circuit.since, self.egress, kind, circuit.why, again)
