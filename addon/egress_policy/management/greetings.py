"""Greets the proxies whose circuits wait for a trial, and so finds out that they are back.

``turns.py`` says whose turn it is. ``checks.py`` has the task that steps this.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ..client.dial import OnDial
from ..log import get_logger
from ..model.decision import Egress
from ..policy.health import CircuitState
from ..policy.hop import Outcome
from ..policy.snapshot import Snapshot
from .check_outcomes import CheckOutcomes, hop_of, unended
from .schedule import AT_A_HOP, Pace, is_usable
from .turns import Turns

logger = get_logger(__name__)

AT_ONCE: Final = 128
"""Dead proxies take seconds to be given up, and each of thousands is to have its turn."""
_POLLS: Final = ((100, 0.25), (1000, 1.0))
"""Up to so many that wait for a greeting, the circuits are looked at again after these seconds."""
_LONGEST_POLL: Final = 3.0
"""With more: each look costs the more, and the wait for a turn is longer anyway."""


class Circuits(Protocol):
    """What has to be known of proxies: a ``Health`` knows it."""

    greets: bool
    """Whether somebody greets half-open proxies."""

    def due(self) -> Sequence[Egress]:
        """The half-open ones for which a greeting tells enough, whose time has come."""

    def taken(self, egress: Egress) -> object:
        """A trial of a half-open one begins."""

    def state(self, egress: Egress) -> CircuitState:
        """How its circuit is."""


class Greeter(Protocol):
    """What sends the greetings: a ``Prober``."""

    async def greet(self, egress: Egress, on_dial: OnDial) -> Outcome: ...


class InForce(Protocol):
    """The policy in force. ``problem`` says why everything is refused."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def problem(self) -> str: ...


class Greetings:
    """``pace`` is shared with others that dial. ``clock`` gives seconds and never goes back.
    ``on_end`` is called when a greeting has ended."""

    def __init__(
        self,
        in_force: InForce,
        greeter: Greeter,
        circuits: Circuits,
        outcomes: CheckOutcomes,
        pace: Pace,
        clock: Callable[[], float],
        on_end: Callable[[], None],
    ) -> None:
        self._in_force, self._greeter, self._circuits = in_force, greeter, circuits
        self._outcomes, self._pace, self._clock, self._on_end = outcomes, pace, clock, on_end
        self._turns = Turns(pace)
        self._poll_at = float("-inf")
        self.under_way: dict[asyncio.Task[None], Egress] = {}

    def follow(self, snapshot: Snapshot, now: float) -> None:
        """Take in another policy, and end what it no longer lets out."""
        self._turns.plan(snapshot.pools.values())
        self._poll_at = now
        for task, egress in self.under_way.items():
            if not self._is_current(egress):
                task.cancel()

    def step(self, now: float) -> None:
        """Start those whose turn it is."""
        if now >= self._poll_at:
            due = () if self._in_force.problem else self._circuits.due()
            self._turns.wait(due)
            polls = (seconds for most, seconds in _POLLS if len(due) <= most)
            self._poll_at = now + next(polls, _LONGEST_POLL)
        while egress := self._turns.take(now, self._may_greet):
            task = asyncio.create_task(self._greet(egress), name=f"egress greeting {egress.name}")
            self.under_way[task] = egress
            task.add_done_callback(self._ended)

    def next(self, now: float) -> float:
        """When to step again, unless a greeting ends before."""
        turn = self._turns.next(now)
        return self._poll_at if turn is None else min(self._poll_at, turn)

    def _may_greet(self, egress: Egress) -> bool:
        at_hop = [hop_of(one) for one in self.under_way.values()].count(hop_of(egress))
        return (
            len(self.under_way) < AT_ONCE
            and at_hop < AT_A_HOP
            and self._is_current(egress)
            and self._waits_for_trial(egress)
        )

    def _is_current(self, egress: Egress) -> bool:
        """Whether the policy, where it has a proxy of this name, has it unedited and active."""
        snapshot = self._in_force.snapshot
        proxy = snapshot.proxies.get(egress.name)
        if proxy is None or proxy is egress.proxy:
            return egress.proxy is not None and is_usable(egress.proxy, snapshot)
        is_same = Egress(proxy, proxy.family).hop_key == egress.hop_key
        return is_same and is_usable(proxy, snapshot)

    def _waits_for_trial(self, egress: Egress) -> bool:
        circuit = self._circuits.state(egress)
        return circuit.state == "half-open" and not circuit.trial

    async def _greet(self, egress: Egress) -> None:
        """Greet a proxy, and again at once where one success does not close its circuit."""
        pool = next(iter(self._turns.pools_of(egress.name)), "")
        if await self._greet_once(egress, pool) and self._waits_for_trial(egress):
            self._pace.overtake(self._clock())
            await self._greet_once(egress, pool)

    async def _greet_once(self, egress: Egress, pool: str) -> bool:
        self._circuits.taken(egress)
        outcome = unended(self._clock())  # also where this is cancelled: the trial is over
        tell = functools.partial(self._outcomes.tell, egress, hop_of(egress), pool)
        try:
            outcome = await self._greeter.greet(egress, tell)
        except Exception:
            logger.exception(f"Egress: the greeting of proxy {egress.name} went wrong")
        finally:
            tell(outcome)
        return outcome.failure is None

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self.under_way[task]
        self._on_end()
