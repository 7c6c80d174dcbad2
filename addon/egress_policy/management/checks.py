"""Checks of proxies in the background: one task that steps greetings and what pools ask for.

It decides nothing about a proxy: it reports what it found, as live flows do. ``schedule.py`` says
which check is next, ``greetings.py`` greets proxies that wait for a trial.
"""

import asyncio
import functools
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from pydantic import Field

from ..client.dial import OnDial
from ..client.probe import ProbeResult
from ..errors import Reason
from ..log import get_logger
from ..model.decision import Egress
from ..model.target_url import TargetUrl
from ..policy.fault import Cause
from ..policy.health import CircuitState
from ..policy.hop import HopFailure
from ..policy.snapshot import Snapshot
from ..sentence import Sentence
from .check_outcomes import CheckOutcome, CheckOutcomes, hop_of, unended
from .greetings import Circuits, Greeter, Greetings, InForce
from .prober import Report, outcome_of
from .schedule import INTERVAL, Check, Pace, Schedule
from .views import View

logger = get_logger(__name__)

_AFTER_ERROR: Final = 1.0


class Sender(Greeter, Protocol):
    """What sends the checks: a ``Prober``."""

    async def probe(self, egress: Egress, url: TargetUrl, on_dial: OnDial) -> ProbeResult: ...


class ChecksStatus(View):
    """``lag_s``: for how many seconds the check that waits longest has been due. ``outcomes``
    counts greetings and checks since the start."""

    scheduled: int = 0
    running: int = 0
    lag_s: float = 0.0
    outcomes: dict[str, int] = Field(default_factory=dict)


class Checker:
    """One task on the running loop. ``report`` takes in what came of each attempt; ``saw`` is told
    of those of live flows. ``clock`` gives seconds and never goes back.

    Nothing is sent while everything is refused, to a proxy that is inactive, or by an edit of it
    that is no longer in force.
    """

    def __init__(
        self,
        in_force: InForce,
        sender: Sender,
        circuits: Circuits,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._in_force = in_force
        self._sender = sender
        self._circuits = circuits
        self._clock = clock
        self._outcomes = CheckOutcomes(report)
        self._wake = asyncio.Event()
        pace = Pace(INTERVAL)
        self._schedule = Schedule(chance or random.Random(), pace)  # noqa: S311 (no secret)
        self._greetings = Greetings(
            in_force, sender, circuits, self._outcomes, pace, clock, self._wake.set
        )
        self._snapshot: Snapshot | None = None
        self._seen: dict[str, float] = {}
        """When a live flow was last seen to try a proxy, by ``Egress.hop_key``."""
        self._checking: dict[asyncio.Task[None], Check] = {}
        self._task: asyncio.Task[None] | None = None

    # -- life cycle

    def start(self) -> None:
        """Begin, on the running loop."""
        if self._task is None:
            self._circuits.greets = True
            self._task = asyncio.create_task(self._run(), name="egress checks")

    async def aclose(self) -> None:
        """End it, and all that it has under way."""
        self._circuits.greets = False
        task, self._task = self._task, None
        tasks = [*self._checking, *self._greetings.under_way, *([task] if task else [])]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what it says and is told

    @property
    def lag(self) -> float:
        """For how many seconds the check has been due that waits longest."""
        return self._schedule.lag(self._clock())

    @property
    def outcomes(self) -> Counter[CheckOutcome]:
        """How many greetings and checks came to what."""
        return self._outcomes.counts

    def status(self) -> ChecksStatus:
        return ChecksStatus(
            scheduled=len(self._schedule),
            running=len(self._checking) + len(self._greetings.under_way),
            lag_s=round(self.lag, 1),
            outcomes=dict(self.outcomes),
        )

    def saw(self, egress: Egress) -> None:
        """A live flow has tried this egress, which tells as much as a check."""
        if len(self._schedule):
            self._seen[egress.hop_key] = self._clock()

    # -- the task

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                delay = self.step()
            except Exception:
                logger.exception("Egress: the checks of proxies went wrong; they go on")
                delay = _AFTER_ERROR
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def step(self) -> float:
        """Start what is to be started now. Returns in how many seconds to come again, unless
        something ends before."""
        now = self._clock()
        if self._snapshot is not (snapshot := self._in_force.snapshot):
            self.follow(snapshot)
        self._greetings.step(now)
        for check in self._schedule.take(now, self._is_needless):
            self._check(check)
        at, check_at = self._greetings.next(now), self._schedule.next(now)
        return max(0.0, (at if check_at is None else min(at, check_at)) - now)

    def follow(self, snapshot: Snapshot) -> None:
        """Take in another policy, and end what it no longer lets out."""
        now = self._clock()
        self._schedule.plan(snapshot, now)
        self._snapshot = snapshot
        for task, check in self._checking.items():
            planned = self._schedule.find(check.key)
            if planned is None or planned.egress.hop_key != check.egress.hop_key:
                task.cancel()
        self._greetings.follow(snapshot, now)
        if len(self._seen) > len(self._schedule):
            keys = {check.egress.hop_key for check in self._schedule.checks()}
            self._seen = {key: at for key, at in self._seen.items() if key in keys}

    # -- checks

    def _is_needless(self, check: Check) -> bool:
        egress = check.egress
        circuit = self._circuits.state(egress)
        if check.how.members == "down" and circuit.state == "closed":
            return True
        if circuit.state == "half-open" and (check.url is None or circuit.trial):
            return True  # its greeting tells as much, or it is tried already
        if circuit.state == "open" and _is_to_be_left_alone(circuit):
            return True
        seen = self._seen.get(egress.hop_key)
        if seen is not None and self._clock() - seen < check.how.every:
            self._outcomes.counts["replaced"] += 1
            return True
        return False

    def _check(self, check: Check) -> None:
        name = f"egress check {check.egress.name}"
        task = asyncio.create_task(self._check_once(check), name=name)
        self._checking[task] = check
        task.add_done_callback(self._checked)

    def _checked(self, task: asyncio.Task[None]) -> None:
        self._schedule.ended(self._checking.pop(task), self._clock())
        self._wake.set()

    async def _check_once(self, check: Check) -> None:
        egress, began = check.egress, self._clock()
        outcome = unended(began)
        target = check.target or hop_of(egress)
        tell = functools.partial(self._outcomes.tell, egress, target, check.pool)
        try:
            if check.url is None:
                outcome = await self._sender.greet(egress, tell)
            else:
                result = await self._sender.probe(egress, check.url, tell)
                outcome = outcome_of(result, began, self._clock(), _unexpected(check, result))
        except Exception:
            logger.exception(f"Egress: the check of proxy {egress.name} went wrong")
        finally:
            tell(outcome)


def _is_to_be_left_alone(circuit: CircuitState) -> bool:
    """Whether each further attempt would do harm: the proxy asked for a pause, or rejects the
    credentials and may lock the account."""
    last = circuit.last_failure
    return circuit.limited or (last is not None and last.cause is Cause.CREDENTIALS)


def _unexpected(check: Check, result: ProbeResult) -> HopFailure | None:
    """Why the status of an answer makes a check fail. The target may be the cause: comparing the
    members tells."""
    if result.status is None or check.how.accepts(result.status):
        return None
    other = "the check was answered {status}, not {expected}"
    what = Sentence(
        "check_unexpected", other, status=str(result.status), expected=str(check.how.expect)
    )
    return HopFailure(Reason.HANDSHAKE_FAILED, what, Cause.UNDECIDED)
