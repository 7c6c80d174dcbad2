"""Checks of proxies in the background: greetings of those that wait for a trial, always, and the
checks that pools ask for.

It decides nothing about a proxy: it reports what it found, as live flows do.
"""

import asyncio
import functools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from pydantic import Field

from ..client.dial import OnDial
from ..client.probe import ProbeResult
from ..errors import Reason
from ..log import get_logger
from ..model.decision import Egress, Place
from ..model.target_url import TargetUrl
from ..policy.fault import Cause
from ..policy.health import CircuitState
from ..policy.hop import HopFailure, Outcome
from ..policy.snapshot import Snapshot
from ..sentence import Sentence
from .prober import Report, outcome_of, proxy_of
from .schedule import AT_A_HOP, INTERVAL, Check, Pace, Schedule, is_usable
from .turns import Turns
from .views import View

logger = get_logger(__name__)

GREETINGS_AT_ONCE: Final = 128
"""Dead proxies take seconds to be given up, and each of thousands is to have its turn."""
_POLLS: Final = ((100, 0.25), (1000, 1.0))
"""Up to so many that wait for a greeting, the circuits are looked at again after these seconds."""
_LONGEST_POLL: Final = 3.0
"""With more: each look costs the more, and the wait for a turn is longer anyway."""
_AFTER_ERROR: Final = 1.0

CheckOutcome = Literal["ok", "failed", "undecided", "untried", "replaced"]
"""``untried``: nothing was sent, or nobody is to blame. ``replaced``: there was traffic instead."""


class Circuits(Protocol):
    """What the scheduler needs to know of proxies: a ``Health`` knows it."""

    greets: bool
    """Whether somebody greets half-open proxies."""

    def due(self) -> Sequence[Egress]:
        """The half-open ones for which a greeting tells enough, whose time has come."""

    def taken(self, egress: Egress) -> object:
        """A trial of a half-open one begins."""

    def state(self, egress: Egress) -> CircuitState:
        """How its circuit is."""


class Sender(Protocol):
    """What sends the checks: a ``Prober``."""

    async def greet(self, egress: Egress, on_dial: OnDial) -> Outcome: ...

    async def probe(self, egress: Egress, url: TargetUrl, on_dial: OnDial) -> ProbeResult: ...


class InForce(Protocol):
    """The policy in force. ``problem`` says why everything is refused."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def problem(self) -> str: ...


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
        self._report = report
        self._clock = clock
        self._pace = Pace(INTERVAL)
        self._schedule = Schedule(chance or random.Random(), self._pace)  # noqa: S311 (no secret)
        self._turns = Turns(self._pace)
        self._snapshot: Snapshot | None = None
        self._poll_at = float("-inf")
        self._seen: dict[str, float] = {}
        """When a live flow was last seen to try a proxy, by ``Egress.hop_key``."""
        self._checking: dict[asyncio.Task[None], Check] = {}
        self._greeting: dict[asyncio.Task[None], Egress] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.outcomes: Counter[CheckOutcome] = Counter()

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
        tasks = [*self._checking, *self._greeting, *([task] if task else [])]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what it says and is told

    @property
    def lag(self) -> float:
        """For how many seconds the check has been due that waits longest."""
        return self._schedule.lag(self._clock())

    def status(self) -> ChecksStatus:
        return ChecksStatus(
            scheduled=len(self._schedule),
            running=len(self._checking) + len(self._greeting),
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
        if now >= self._poll_at:
            due = () if self._in_force.problem else self._circuits.due()
            self._turns.wait(due)
            polls = (seconds for most, seconds in _POLLS if len(due) <= most)
            self._poll_at = now + next(polls, _LONGEST_POLL)
        while egress := self._turns.take(now, self._may_greet):
            self._greet(egress)
        for check in self._schedule.take(now, self._is_needless):
            self._check(check)
        times = (self._poll_at, self._turns.next(now), self._schedule.next(now))
        return max(0.0, min(time for time in times if time is not None) - now)

    def follow(self, snapshot: Snapshot) -> None:
        """Take in another policy, and end what it no longer lets out."""
        now = self._clock()
        self._schedule.plan(snapshot, now)
        self._turns.plan(snapshot.pools.values())
        self._snapshot = snapshot
        self._poll_at = now
        for task, check in self._checking.items():
            planned = self._schedule.find(check.key)
            if planned is None or planned.egress.hop_key != check.egress.hop_key:
                task.cancel()
        for greeting, egress in self._greeting.items():
            if not self._is_current(egress):
                greeting.cancel()
        if len(self._seen) > len(self._schedule):
            keys = {check.egress.hop_key for check in self._schedule.checks()}
            self._seen = {key: at for key, at in self._seen.items() if key in keys}

    def _is_current(self, egress: Egress) -> bool:
        """Whether the policy, where it has a proxy of this name, has it unedited and active."""
        snapshot = self._in_force.snapshot
        proxy = snapshot.proxies.get(egress.name)
        if proxy is None or proxy is egress.proxy:
            return egress.proxy is not None and is_usable(egress.proxy, snapshot)
        is_same = Egress(proxy, proxy.family).hop_key == egress.hop_key
        return is_same and is_usable(proxy, snapshot)

    # -- greetings

    def _may_greet(self, egress: Egress) -> bool:
        at_hop = [_hop(one) for one in self._greeting.values()].count(_hop(egress))
        return (
            len(self._greeting) < GREETINGS_AT_ONCE
            and at_hop < AT_A_HOP
            and self._is_current(egress)
            and self._waits_for_trial(egress)
        )

    def _waits_for_trial(self, egress: Egress) -> bool:
        circuit = self._circuits.state(egress)
        return circuit.state == "half-open" and not circuit.trial

    def _greet(self, egress: Egress) -> None:
        task = asyncio.create_task(self._greet_all(egress), name=f"egress greeting {egress.name}")
        self._greeting[task] = egress
        task.add_done_callback(self._greeted)

    def _greeted(self, task: asyncio.Task[None]) -> None:
        del self._greeting[task]
        self._wake.set()

    async def _greet_all(self, egress: Egress) -> None:
        """Greet a proxy, and again at once where one success does not close its circuit."""
        pool = next(iter(self._turns.pools_of(egress.name)), "")
        if await self._greet_once(egress, pool) and self._waits_for_trial(egress):
            self._pace.overtake(self._clock())
            await self._greet_once(egress, pool)

    async def _greet_once(self, egress: Egress, pool: str) -> bool:
        self._circuits.taken(egress)
        began = self._clock()
        outcome = _unended(began, began)  # also where this is cancelled: the trial is over
        tell = functools.partial(self._tell, egress, _hop(egress), pool)
        try:
            outcome = await self._sender.greet(egress, tell)
        except Exception:
            logger.exception(f"Egress: the greeting of proxy {egress.name} went wrong")
        finally:
            tell(outcome)
        return outcome.failure is None

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
            self.outcomes["replaced"] += 1
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
        outcome = _unended(began, began)
        tell = functools.partial(self._tell, egress, check.target or _hop(egress), check.pool)
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

    def _tell(self, egress: Egress, target: Place, pool: str, outcome: Outcome) -> None:
        if outcome.step == "attempt":
            self.outcomes[_word(outcome)] += 1
        try:
            self._report(egress, target, pool, outcome)
        except Exception:
            logger.exception(f"Egress: the check of proxy {egress.name} could not be reported")


def _hop(egress: Egress) -> Place:
    proxy = proxy_of(egress)
    return proxy.host, proxy.port


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


def _unended(began: float, ended: float) -> Outcome:
    what = Sentence("check_ended", "the check was ended")
    failure = HopFailure(Reason.ERROR, what, Cause.NOBODY)
    return Outcome("attempt", "", failure, began, ended)


def _word(outcome: Outcome) -> CheckOutcome:
    if outcome.failure is None:
        return "ok"
    match outcome.failure.judgement.fault:
        case "proxy":
            return "failed"
        case "undecided" | "target":
            return "undecided"
    return "untried"
