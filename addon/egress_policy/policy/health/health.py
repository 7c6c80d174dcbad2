"""How every proxy fares, as picks ask it: whose circuits are open, and who waits for a trial. Pure.

It takes in what came of each attempt and answers which proxies may be picked. It never writes the
``status`` of a proxy, which is a person's word, and keeps all it knows in memory.
``track_record.py`` has what is kept of one proxy, ``jury.py`` says who is to blame.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ...errors import Reason
from ...model.decision import Egress, Place, Refusal, Trial
from ...model.words import span
from ...sentence import Sentence
from ..fail_closed import fail_closed
from ..fault import Cause
from ..hop import Outcome
from .blame import Proven
from .circuit import Circuit, State, Strike
from .jury import Jury
from .track_record import CircuitEvent, CircuitEventKind, CircuitState, TrackRecord

GREETING_PATIENCE: Final = 600.0
"""Seconds for which a half-open circuit waits for a greeting before a live connection tries it.
Thousands of dead proxies take their time; after that nobody seems to greet any more."""
_NEVER: Final = float("inf")


class Health:
    """The circuits of all proxies. ``clock`` is the monotonic one, ``on_event`` hears of changes.
    ``on_return`` is called with the ``Egress.hop_key`` of a proxy that may be picked again.

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
        self.on_return: Callable[[str], None] = lambda _: None
        self._records: dict[str, TrackRecord] = {}
        self._unavailable: set[str] = set()
        self._greetable: set[str] = set()
        self._wakes: list[tuple[float, str]] = []
        self._next = _NEVER
        self._jury = Jury()
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
        circuit, proxy = self._records[egress.hop_key].circuit, egress.proxy
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
        record = self._records.get(egress.hop_key)
        return record.time.seconds(self._clock()) if record else None

    def due(self) -> Sequence[Egress]:
        """The half-open proxies that a greeting is to try, that which has waited longest first.
        Call ``taken`` before each greeting, and ``report`` with the step "attempt" after it."""
        self._wake(self._clock())
        records = [self._records[key] for key in self._greetable]
        records.sort(key=lambda record: (record.circuit.idle_since, record.egress.name))
        return [record.egress for record in records if _is_watched(record.egress)]

    def state(self, egress: Egress) -> CircuitState:
        """How a proxy fares."""
        now = self._clock()
        self._wake(now)
        record = self._records.get(egress.hop_key)
        return record.state(now, watched=_is_watched(egress)) if record else CircuitState()

    def circuits(self) -> Sequence[tuple[Egress, State]]:
        """The circuits that are not closed, also of proxies whose circuits are switched off."""
        self._wake(self._clock())
        return [
            (record.egress, record.circuit.state)
            for record in self._records.values()
            if record.circuit.state != "closed"
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
        for record in self._records.values():
            if record.circuit.state == "half-open":
                self._refresh(record, now)

    # -- events

    def wake(self) -> None:
        """Let the circuits do what was due until now. Every question and event does so first."""
        if self._wakes:
            self._wake(self._clock())

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
        self._convict(self._jury.heard(egress, outcome), now)
        if outcome.step == "attempt" and egress.proxy is not None:
            record = self._record_of(egress, now)
            record.count(outcome, now)
            if _is_watched(egress):
                self._judge(record, target, pool, outcome, now)
        self._look_at_network(now)

    def taken(self, egress: Egress) -> Trial | None:
        """A connection is about to leave by the egress. Returns the trial that it is if the circuit
        is half-open."""
        now = self._clock()
        self._wake(now)
        record = self._records.get(egress.hop_key)
        if record is None or not _is_watched(egress) or not record.circuit.take(now):
            return None
        self._refresh(record, now)
        return Trial(partial(self._given_back, record, now))

    def _given_back(self, record: TrackRecord, began: float) -> None:
        now = self._clock()
        self._wake(now)
        is_kept = self._records.get(record.egress.hop_key) is record
        if is_kept and record.circuit.give_back(began):
            self._refresh(record, now)

    def reset(self, hop_key: str) -> bool:
        """Close the circuit of a proxy, as a person asks for. Returns whether it was not closed."""
        now = self._clock()
        self._wake(now)
        record = self._records.get(hop_key)
        if record is None:
            return False
        was_closed = record.circuit.state == "closed"
        record.circuit.reset(now)
        record.news()  # told here, as what a person did
        if not was_closed:
            self._on_event(CircuitEvent(now, record.egress, "reset"))
        self._refresh(record, now)
        return not was_closed

    def keep(self, is_known: Callable[[Egress], bool]) -> None:
        """Forget the proxies that the policy has no more, as it says itself."""
        kept = {key for key, record in self._records.items() if is_known(record.egress)}
        if len(kept) == len(self._records):
            return
        self._records = {key: record for key, record in self._records.items() if key in kept}
        self._unavailable &= kept
        self._greetable &= kept
        self._compact()

    # -- what an outcome means

    def _judge(
        self, record: TrackRecord, target: Place, pool: str, outcome: Outcome, now: float
    ) -> None:
        circuit, key, failure = record.circuit, record.egress.hop_key, outcome.failure
        if failure is None:
            was_closed = circuit.state == "closed"
            circuit.succeeded(outcome.began, now)
            if pool:
                self._convict(self._jury.worked(target, key, outcome.ended), now)
            if not was_closed:
                self._refresh(record, now)
            return
        circuit.ended(outcome.began, now)
        if failure.cause is Cause.LIMITED:
            circuit.paused(outcome.began, now, failure.retry_after)
        else:
            strike = Strike(outcome.began, outcome.ended, failure, outcome.hop)
            on_trial = circuit.state == "half-open"
            if self._jury.convicts(key, target, pool, outcome.address, strike, on_trial=on_trial):
                circuit.struck(strike, now)
        self._refresh(record, now)

    def _convict(self, proven: Proven, now: float) -> None:
        """Count failures that were in doubt."""
        for key, strike in proven:
            if (record := self._records.get(key)) and _is_watched(record.egress):
                record.circuit.struck(strike, now)
                self._refresh(record, now)

    def _look_at_network(self, now: float) -> None:
        """Tell when our own network becomes suspected, and when no more."""
        suspicion = self._jury.suspicion(now)
        if bool(suspicion) != bool(self._suspicion):
            kind: CircuitEventKind = "own-network" if suspicion else "own-network-up"
            self._on_event(CircuitEvent(now, None, kind, suspicion))
        self._suspicion = suspicion

    # -- what is kept beside the circuits

    def _record_of(self, egress: Egress, now: float) -> TrackRecord:
        record = self._records.get(egress.hop_key)
        if record is None:
            record = self._records[egress.hop_key] = TrackRecord(egress, Circuit(self._random, now))
        record.egress = egress
        return record

    def _wake(self, now: float) -> None:
        """Let the circuits do what was due until ``now``."""
        while self._wakes and self._wakes[0][0] <= now:
            at, key = heapq.heappop(self._wakes)
            record = self._records.get(key)
            if record and record.wakes_at == at:
                record.wakes_at = None
                record.circuit.advance(now)
                self._refresh(record, now)
        self._next = self._wakes[0][0] if self._wakes else _NEVER

    def _refresh(self, record: TrackRecord, now: float) -> None:
        """Keep what is asked at each pick in step with a circuit that may have changed."""
        circuit, key = record.circuit, record.egress.hop_key
        waits = circuit.state == "half-open" and circuit.trial is None
        patience = circuit.idle_since + GREETING_PATIENCE
        to_greet = waits and self._greets and circuit.greetable and now < patience
        _put(self._greetable, key, to_greet)
        available = circuit.state == "closed" or (waits and not to_greet)
        if available and key in self._unavailable:
            self.on_return(key)
        _put(self._unavailable, key, not available)
        wakes_at = patience if to_greet else circuit.wakes_at
        if wakes_at != record.wakes_at:
            record.wakes_at = wakes_at
            if wakes_at is not None:
                heapq.heappush(self._wakes, (wakes_at, key))
            self._compact()
        if news := record.news():
            self._on_event(news)

    def _compact(self) -> None:
        """Drop wakes that nobody waits for once they are the most."""
        if len(self._wakes) > 2 * len(self._records) + 64:
            self._wakes = [
                (record.wakes_at, key)
                for key, record in self._records.items()
                if record.wakes_at is not None
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
