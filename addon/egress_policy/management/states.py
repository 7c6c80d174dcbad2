"""How each proxy fares now, in words for people: its circuit, its limit and its exit.

The person's word (``status``) stands beside it and is not touched: a person closes a circuit, no
machine writes a status.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from ..model.decision import Egress
from ..model.proxy import Proxy
from ..model.words import count, iso_time, span
from ..policy.exits import clause
from ..policy.health import CircuitState
from ..policy.health import State as CircuitWord
from ..policy.hop import HopFailure
from ..policy.standing import Standing
from ..sentence import Sentence
from .in_force import PolicyInForce
from .views import Spoken, View

State = Literal["closed", "half-open", "open", "full", "exit", "unusable"]
"""``closed``, ``open`` and ``half-open`` are those of its circuit. ``full``: it has as many
connections as its limit allows. ``exit``: its exit is not the expected one. ``unusable``: the
policy does not let it be used, because it is inactive, for example."""
STATES: Final[tuple[State, ...]] = get_args(State)


class LastFailure(Spoken):
    """The last failure for which the proxy may be to blame. ``what`` is a clause for people."""

    reason: str
    fault: str
    what: str


class StateView(Spoken):
    """How a proxy fares. ``why`` is a clause that says why it is not used, empty where it is.

    Times are ISO 8601 in UTC. ``since`` says when the state of its circuit began, ``retry_at`` when
    it is tried again and ``retry_in_s`` in how many seconds; ``trial``: that try is under way.
    ``active`` counts its connections, which may be ``limit`` (0 is none). ``ewma_ms`` is what the
    hop costs. ``successes`` and ``failures`` count attempts since the start.
    """

    state: State
    why: str = ""
    since: str | None = None
    retry_at: str | None = None
    retry_in_s: float | None = None
    trial: bool = False
    active: int = 0
    limit: int = 0
    ewma_ms: float | None = None
    successes: int = 0
    failures: int = 0
    last_failure: LastFailure | None = None


def why_now(one: StateView) -> str:
    """Why a proxy is not used, and when it is tried again."""
    if one.trial:
        return f"{one.why}; it is being tried"
    return f"{one.why}; tried in {span(one.retry_in_s)}" if one.retry_in_s else one.why


class CircuitsStatus(View):
    """How many circuits are not closed. ``own_network``: our own network seems to be down."""

    open: int = 0
    half_open: int = 0
    own_network: bool = False


class ResetView(View):
    """What came of closing the circuit of a proxy. ``was`` is the state that it had before."""

    proxy: str
    was: State
    state: State


class States:
    """For the loop only. ``clock`` gives monotonic seconds, ``now`` the time for people."""

    def __init__(
        self,
        in_force: PolicyInForce,
        standing: Standing,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._in_force, self._standing = in_force, standing
        self._clock, self._now = clock, now
        self._snapshot: object = None
        self._egresses: dict[str, Egress] = {}
        """By the name of the proxy: the key of an egress is computed once."""

    @property
    def own_network(self) -> bool:
        """Whether our own network seems to be down."""
        return self._standing.health.own_network

    def words(self, names: Iterable[str]) -> list[State]:
        """The states of the proxies of these names, of which there may be thousands."""
        circuits, snapshot = self._circuits(), self._in_force.snapshot
        return [
            "unusable"
            if snapshot.why_unusable(name)
            else self._state(self.egress(snapshot.proxies[name]), circuits.get)
            for name in names
        ]

    def word(self, name: str) -> State:
        """The state of the proxy of this name."""
        return self.words((name,))[0]

    def of(self, name: str) -> StateView:
        """How the proxy of this name fares."""
        snapshot = self._in_force.snapshot
        why, proxy = snapshot.why_unusable(name), snapshot.proxies.get(name)
        if proxy is None:
            return StateView(state="unusable", why=why)
        return self.of_egress(self.egress(proxy), why)

    def of_egress(self, egress: Egress, unusable: str = "") -> StateView:
        """How an egress fares; ``unusable`` says why the policy does not let it be used."""
        circuit = self._standing.health.state(egress)
        state = "unusable" if unusable else self._state(egress, lambda _: circuit.state)
        return StateView(
            state=state,
            why=unusable or self._why(state, egress, circuit),
            since=self._time_of(circuit.since),
            retry_at=self._time_of(circuit.retry_at),
            retry_in_s=self._seconds_to(circuit.retry_at),
            trial=circuit.trial,
            active=self._standing.active(egress),
            limit=egress.proxy.max_connections if egress.proxy else 0,
            ewma_ms=None if circuit.ewma is None else round(circuit.ewma * 1000, 1),
            successes=circuit.successes,
            failures=circuit.failures,
            last_failure=_failure(circuit.last_failure),
        )

    def circuits(self) -> CircuitsStatus:
        """What of the circuits a status says."""
        words = Counter(self._circuits().values())
        return CircuitsStatus(
            open=words["open"], half_open=words["half-open"], own_network=self.own_network
        )

    def reset(self, proxy: Proxy) -> ResetView:
        """Close the circuit of a proxy, as a person asks for."""
        egress = self.egress(proxy)
        was = self.word(proxy.name)
        self._standing.health.reset(egress.hop_key)
        return ResetView(proxy=proxy.name, was=was, state=self.word(proxy.name))

    def egress(self, proxy: Proxy) -> Egress:
        """The egress by which the circuit and the connections of a proxy are found."""
        if self._snapshot is not self._in_force.snapshot:
            self._snapshot = self._in_force.snapshot
            proxies = self._in_force.snapshot.proxies
            self._egresses = {
                name: egress
                for name, egress in self._egresses.items()
                if proxies.get(name) is egress.proxy
            }
        found = self._egresses.get(proxy.name)
        if found is None or found.proxy is not proxy:
            found = self._egresses[proxy.name] = Egress(proxy, proxy.family)
        return found

    def active(self, proxy: Proxy) -> int:
        """How many connections a proxy has."""
        return self._standing.active(self.egress(proxy))

    def is_available(self, egress: Egress) -> bool:
        """Whether an egress is picked now, if only for a trial."""
        return self._standing.is_available(egress)

    def _circuits(self) -> Mapping[str, CircuitWord]:
        """The circuits that are not closed, nor switched off, by ``Egress.hop_key``."""
        proxies = self._in_force.snapshot.proxies
        return {
            egress.hop_key: state
            for egress, state in self._standing.health.circuits()
            if (now := proxies.get(egress.name, egress.proxy)) and now.health == "watch"
        }

    def _state(self, egress: Egress, circuit_of: Callable[[str], CircuitWord | None]) -> State:
        circuit, standing = circuit_of(egress.hop_key), self._standing
        if circuit not in (None, "closed"):
            return circuit
        if standing.occupancy.is_full(egress):
            return "full"
        return "exit" if standing.exit_refusal(egress) else "closed"

    def _why(self, state: State, egress: Egress, circuit: CircuitState) -> str:
        if state in ("open", "half-open"):
            return circuit.why
        if state == "full":
            number = self._standing.active(egress)
            held = count(number, "connection", "connections")
            said = "it has {held}, as many as its limit"
            return Sentence("full", said, held=held, count=number)
        if state == "exit" and (refusal := self._standing.exit_refusal(egress)):
            return clause(egress.name, refusal.detail)
        return ""

    def _time_of(self, at: float | None) -> str | None:
        if at is None:
            return None
        epoch = self._now().timestamp() - self._clock() + at
        return iso_time(datetime.fromtimestamp(epoch, UTC))

    def _seconds_to(self, at: float | None) -> float | None:
        return None if at is None else round(max(0.0, at - self._clock()), 1)


def _failure(failure: HopFailure | None) -> LastFailure | None:
    if failure is None:
        return None
    fault = failure.judgement.fault
    return LastFailure(reason=failure.reason.value, fault=fault, what=failure.what)
