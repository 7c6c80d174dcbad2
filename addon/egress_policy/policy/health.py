"""How every proxy fares: its circuit, what it costs, and who was to blame for what failed. Pure.

It takes in what came of each attempt and answers which proxies may be picked. It never writes the
``status`` of a proxy, which is a person's word, and keeps all it knows in memory.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from ..errors import Reason
from ..model.decision import Egress, Place, Refusal, Trial
from ..model.words import span
from ..sentence import Sentence
from .blame import Proven
from .circuit import Circuit, State, Strike
from .evidence import TargetEvidence
from .fail_closed import fail_closed
from .fault import Cause
from .hop import HopFailure, Outcome
from .hop_time import HopTime
from .own_network import OwnNetwork

GREETING_PATIENCE: Final = 600.0
"""Seconds for which a half-open circuit waits for a greeting before a live connection tries it.
Thousands of dead proxies take their time; after that nobody seems to greet any more."""
_RETURNED: Final = 1024
"""Keys that are kept for those who ask what has returned."""
_NEVER: Final = float("inf")

Kind = Literal["opened", "limited", "half-open", "closed", "reset", "own-network", "own-network-up"]


@dataclass(frozen=True, slots=True)
class CircuitEvent:
    """What happened to a circuit, or without an ``egress`` to our own network. ``at`` is the time
    in seconds on the monotonic clock, ``why`` is a clause for people. ``again``: a trial failed,
    and the proxy is as dead as before. With thousands of dead proxies there are many of these."""

    at: float
    egress: Egress | None
    kind: Kind
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


class _Fare:
    """How one proxy fares."""

    __slots__ = (
        "circuit",
        "egress",
        "failures",
        "last_failure",
        "seen",
        "successes",
        "time",
        "wakes_at",
    )

    def __init__(self, egress: Egress, circuit: Circuit) -> None:
        self.egress, self.circuit, self.time = egress, circuit, HopTime()
        self.successes = self.failures = 0
        self.last_failure: HopFailure | None = None
        self.seen: tuple[State, float] = circuit.state, circuit.since
        self.wakes_at: float | None = None


class Health:
    """The circuits of all proxies. ``clock`` is the monotonic one, ``on_event`` hears of changes.

    What the policy asks at each pick is one look-up; all else happens when an attempt is reported
    or a circuit wakes.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        rng: random.Random,
        on_event: Callable[[CircuitEvent], None] = lambda _: None,
    ) -> None:
        self._clock, self._random, self._on_event = clock, rng, on_event
        self._fares: dict[str, _Fare] = {}
        self._unavailable: set[str] = set()
        self._greetable: set[str] = set()
        self._wakes: list[tuple[float, str]] = []
        self._next = _NEVER
        self._returned: list[str] = []
        self._position = 0
        self._network = OwnNetwork()
        self._targets = TargetEvidence()
        self._suspicion = ""
        self._greets = False

    # -- questions

    def is_available(self, egress: Egress) -> bool:
        """Whether its circuit lets a new connection through."""
        if self._wakes and self._next <= self._clock():
            self._wake(self._clock())
        return egress.hop_key not in self._unavailable or not _is_watched(egress)

    def refusal(self, egress: Egress) -> Refusal | None:
        """Why it is not available."""
        if self.is_available(egress):
            return None
        circuit, proxy = self._fares[egress.hop_key].circuit, egress.proxy
        assert proxy is not None
        left = max(1.0, (circuit.retry_at or 0.0) - self._clock())
        name, why = egress.name, circuit.why
        alone = "Proxy {name} is left alone for another {span}: {why}"
        said = Sentence("circuit_open", alone, name=name, span=span(left), why=why)
        if circuit.state == "half-open":
            again = "Proxy {name} is being tried again after it failed: {why}"
            said = Sentence("circuit_trial", again, name=name, why=why)
        return Refusal(
            Reason.CIRCUIT_OPEN,
            fail_closed(said),
            egress.name,
            egress.family,
            proxy.host,
            fault="proxy",
            fails_over=True,
            retry_after=left,
        )

    def cost(self, egress: Egress) -> float | None:
        """What the hop costs in seconds, ``None`` if that is not known."""
        fare = self._fares.get(egress.hop_key)
        return fare.time.seconds(self._clock()) if fare else None

    def returned(self, since: int) -> tuple[int, Iterable[str] | None]:
        """The keys that have become available since the position ``since``, see ``Condition``."""
        if self._wakes:
            self._wake(self._clock())
        missed = self._position - since
        if not missed:
            return since, []
        if not 0 <= missed <= len(self._returned):
            return self._position, None
        return self._position, self._returned[len(self._returned) - missed :]

    def due(self) -> Sequence[Egress]:
        """The half-open proxies that a greeting is to try, that which has waited longest first.
        Call ``taken`` before each greeting, and ``report`` with the step "attempt" after it."""
        self._wake(self._clock())
        fares = [self._fares[key] for key in self._greetable]
        fares.sort(key=lambda fare: (fare.circuit.idle_since, fare.egress.name))
        return [fare.egress for fare in fares if _is_watched(fare.egress)]

    def state(self, egress: Egress) -> CircuitState:
        """How a proxy fares."""
        now = self._clock()
        self._wake(now)
        fare = self._fares.get(egress.hop_key)
        if fare is None:
            return CircuitState()
        known = CircuitState(
            successes=fare.successes,
            failures=fare.failures,
            ewma=fare.time.seconds(now),
            last_failure=fare.last_failure,
        )
        if not _is_watched(egress):
            return known
        circuit = fare.circuit
        return replace(
            known,
            state=circuit.state,
            retry_at=circuit.retry_at,
            since=circuit.since,
            why=circuit.why,
            limited=circuit.limited,
            trial=circuit.trial is not None,
        )

    def circuits(self) -> Sequence[tuple[Egress, State]]:
        """The circuits that are not closed, also of proxies whose circuits are switched off."""
        self._wake(self._clock())
        return [
            (fare.egress, fare.circuit.state)
            for fare in self._fares.values()
            if fare.circuit.state != "closed"
        ]

    @property
    def own_network(self) -> bool:
        """Whether our own network seems to be down."""
        self._look_at_network(self._clock())
        return bool(self._suspicion)

    @property
    def greets(self) -> bool:
        """Whether somebody greets what is ``due``. Otherwise a live connection tries each proxy."""
        return self._greets

    @greets.setter
    def greets(self, greets: bool) -> None:
        self._greets, now = greets, self._clock()
        self._wake(now)
        for fare in self._fares.values():
            if fare.circuit.state == "half-open":
                self._refresh(fare, now)

    # -- events

    def report(
        self,
        egress: Egress,
        target: Place,
        pool: str,
        outcome: Outcome,
        *,
        reused: bool = False,
    ) -> None:
        """Take in what came of a dial or of an attempt at a tunnel to ``target``. ``pool`` has the
        name of the pool that the egress was picked from.

        ``reused``: a kept connection failed that had served before. That is never a fault, since
        any server closes idle connections.
        """
        if reused:
            return
        now = self._clock()
        self._wake(now)
        self._convict(self._heed(egress, outcome), now)
        if outcome.step == "attempt" and egress.proxy is not None:
            fare = self._fare(egress, now)
            self._count(fare, outcome, now)
            if _is_watched(egress):
                self._judge(fare, target, pool, outcome, now)
        self._look_at_network(now)

    def taken(self, egress: Egress) -> Trial | None:
        """A connection is about to leave by the egress. Returns the trial that it is if the circuit
        is half-open."""
        now = self._clock()
        self._wake(now)
        fare = self._fares.get(egress.hop_key)
        if fare is None or not _is_watched(egress) or not fare.circuit.take(now):
            return None
        self._refresh(fare, now)
        return Trial(partial(self._given_back, fare, now))

    def _given_back(self, fare: _Fare, began: float) -> None:
        now = self._clock()
        self._wake(now)
        if self._fares.get(fare.egress.hop_key) is fare and fare.circuit.give_back(began):
            self._refresh(fare, now)

    def reset(self, hop_key: str) -> bool:
        """Close the circuit of a proxy, as a person asks for. Returns whether it was not closed."""
        now = self._clock()
        self._wake(now)
        fare = self._fares.get(hop_key)
        if fare is None:
            return False
        was_closed = fare.circuit.state == "closed"
        fare.circuit.reset(now)
        fare.seen = fare.circuit.state, fare.circuit.since
        if not was_closed:
            self._on_event(CircuitEvent(now, fare.egress, "reset"))
        self._refresh(fare, now)
        return not was_closed

    def keep(self, is_known: Callable[[Egress], bool]) -> None:
        """Forget the proxies that the policy has no more, as it says itself."""
        kept = {key for key, fare in self._fares.items() if is_known(fare.egress)}
        if len(kept) == len(self._fares):
            return
        self._fares = {key: fare for key, fare in self._fares.items() if key in kept}
        self._unavailable &= kept
        self._greetable &= kept
        self._compact()

    # -- what an outcome means

    def _heed(self, egress: Egress, outcome: Outcome) -> Proven:
        """What an outcome tells about our own network, and so about other proxies."""
        address, began, ended = outcome.address, outcome.began, outcome.ended
        failure = outcome.failure
        if failure is None or failure.cause is Cause.REFUSED:
            return self._network.answered(address, began, ended)
        if failure.cause is Cause.NO_ANSWER and egress.proxy and outcome.step == "dial":
            self._network.silent(address, began, ended)
        return []

    def _count(self, fare: _Fare, outcome: Outcome, now: float) -> None:
        failure = outcome.failure
        if outcome.hop is not None:
            fare.time.measured(outcome.hop, now)
        if failure is None:
            fare.successes += 1
        elif failure.judgement.fault in ("proxy", "undecided"):
            fare.failures += 1
            fare.last_failure = failure
            if failure.judgement.counts:
                fare.time.failed(outcome.ended - outcome.began, now)

    def _judge(self, fare: _Fare, target: Place, pool: str, outcome: Outcome, now: float) -> None:
        circuit, key, failure = fare.circuit, fare.egress.hop_key, outcome.failure
        if failure is None:
            was_closed = circuit.state == "closed"
            circuit.succeeded(outcome.began, now)
            if pool:
                self._convict(self._targets.worked(target, key, outcome.ended), now)
            if not was_closed:
                self._refresh(fare, now)
            return
        circuit.ended(outcome.began, now)
        if failure.cause is Cause.LIMITED:
            circuit.paused(outcome.began, now, failure.retry_after)
        else:
            strike = Strike(outcome.began, outcome.ended, failure, outcome.hop)
            if self._is_convicted(fare, target, pool, outcome.address, strike):
                circuit.struck(strike, now)
        self._refresh(fare, now)

    def _is_convicted(
        self, fare: _Fare, target: Place, pool: str, address: str, strike: Strike
    ) -> bool:
        """Whether a failure counts against the proxy, as far as is known now."""
        key, cause = fare.egress.hop_key, strike.failure.cause
        # Doubt keeps circuits closed. It is no reason to go on trying a proxy that had failed.
        if cause is Cause.NO_ANSWER:
            proven = self._network.convicts_address(key, address, strike, pooled=bool(pool))
            return proven or fare.circuit.state == "half-open"
        if cause is Cause.SILENT:
            proven = self._network.convicts_server(key, address, strike)
            return proven or fare.circuit.state == "half-open"
        if cause is Cause.UNDECIDED:
            return bool(pool) and self._targets.convicts(target, key, strike)
        if cause is Cause.TARGET and pool:
            self._targets.excuse(target, key)
        return strike.failure.judgement.counts

    def _convict(self, proven: Proven, now: float) -> None:
        """Count failures that were in doubt."""
        for key, strike in proven:
            if (fare := self._fares.get(key)) and _is_watched(fare.egress):
                fare.circuit.struck(strike, now)
                self._refresh(fare, now)

    def _look_at_network(self, now: float) -> None:
        """Tell when our own network becomes suspected, and when no more."""
        suspicion = self._network.suspicion(now)
        if bool(suspicion) != bool(self._suspicion):
            kind: Kind = "own-network" if suspicion else "own-network-up"
            self._on_event(CircuitEvent(now, None, kind, suspicion))
        self._suspicion = suspicion

    # -- what is kept beside the circuits

    def _fare(self, egress: Egress, now: float) -> _Fare:
        fare = self._fares.get(egress.hop_key)
        if fare is None:
            fare = self._fares[egress.hop_key] = _Fare(egress, Circuit(self._random, now))
        fare.egress = egress
        return fare

    def _wake(self, now: float) -> None:
        """Let the circuits do what was due until ``now``."""
        while self._wakes and self._wakes[0][0] <= now:
            at, key = heapq.heappop(self._wakes)
            fare = self._fares.get(key)
            if fare and fare.wakes_at == at:
                fare.wakes_at = None
                fare.circuit.advance(now)
                self._refresh(fare, now)
        self._next = self._wakes[0][0] if self._wakes else _NEVER

    def _refresh(self, fare: _Fare, now: float) -> None:
        """Keep what is asked at each pick in step with a circuit that may have changed."""
        circuit, key = fare.circuit, fare.egress.hop_key
        waits = circuit.state == "half-open" and circuit.trial is None
        patience = circuit.idle_since + GREETING_PATIENCE
        to_greet = waits and self._greets and circuit.greetable and now < patience
        _put(self._greetable, key, to_greet)
        available = circuit.state == "closed" or (waits and not to_greet)
        if available and key in self._unavailable:
            self._returned = [*self._returned[-(_RETURNED - 1) :], key]
            self._position += 1
        _put(self._unavailable, key, not available)
        wakes_at = patience if to_greet else circuit.wakes_at
        if wakes_at != fare.wakes_at:
            fare.wakes_at = wakes_at
            if wakes_at is not None:
                heapq.heappush(self._wakes, (wakes_at, key))
            self._compact()
        self._tell(fare)

    def _tell(self, fare: _Fare) -> None:
        """Tell of a new state of a circuit."""
        circuit = fare.circuit
        seen = circuit.state, circuit.since
        if seen == fare.seen:
            return
        before, fare.seen = fare.seen[0], seen
        again = (before, circuit.state) == ("half-open", "open") and not circuit.limited
        kind: Kind = circuit.state if circuit.state != "open" else "opened"
        if circuit.limited:
            kind = "limited"
        self._on_event(CircuitEvent(circuit.since, fare.egress, kind, circuit.why, again))

    def _compact(self) -> None:
        """Drop wakes that nobody waits for once they are the most."""
        if len(self._wakes) > 2 * len(self._fares) + 64:
            self._wakes = [
                (fare.wakes_at, key)
                for key, fare in self._fares.items()
                if fare.wakes_at is not None
            ]
            heapq.heapify(self._wakes)
        self._next = self._wakes[0][0] if self._wakes else _NEVER


def _is_watched(egress: Egress) -> bool:
    return egress.proxy is not None and egress.proxy.health == "watch"


def _put(keys: set[str], key: str, is_in: bool) -> None:
    if is_in:
        keys.add(key)
    else:
        keys.discard(key)
