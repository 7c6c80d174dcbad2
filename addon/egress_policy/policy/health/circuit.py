"""The circuit of one proxy: whether it is used, is left alone for a while, or is tried. Pure.

It is *closed* while the proxy works. Faults open it, and no new connection leaves by the proxy.
After a rest it is *half-open*: one attempt at a time is a trial. Two successes close it, a failure
opens it again, for longer.

Times are seconds on a monotonic clock and given by the caller. ``health.py`` keeps the circuits of
all proxies, wakes them, and decides which failures are strikes.
"""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

from ...sentence import Sentence
from ..fault import Cause
from ..hop import HopFailure

State = Literal["closed", "open", "half-open"]

# -- limits

IN_A_ROW: Final = 3
"""Strikes without a success between them that open a circuit, if they fall within ``SPAN``."""
SPAN: Final = 60.0
"""Seconds that are looked back on."""
AT_LEAST: Final = 10
"""Attempts within ``SPAN`` from which on the share of strikes counts."""
SHARE: Final = 0.5
"""The share of strikes that opens a circuit."""
FIRST_REST: Final = 5.0
"""Seconds for which a circuit opens first."""
LEAST_REST: Final = 8.0
"""Seconds for which it opens at least after a trial has failed."""
GROWTH: Final = 0.25
"""The next rest as a part of the outage so far. With ``JITTER`` a proxy that has recovered is tried
after at most 30 % of its outage. Rests that double would take up to 100 %."""
LONGEST_REST: Final = 600.0
JITTER: Final = 0.2
"""Rests differ by this share, so that proxies that failed together are not tried together."""
CREDENTIALS_REST: Final = 300.0
"""Seconds for which a circuit opens at least for wrong credentials. They rarely mend themselves,
and a provider may lock the account."""
PAUSE: Final = 60.0
"""Seconds that a proxy is left alone which serves too much and does not say for how long."""
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 3600.0
TRIAL_LIMIT: Final = 30.0
"""Seconds after which a trial is given back whose end nobody reports. An attempt takes less."""
TO_CLOSE: Final = 2
"""Successes that close a half-open circuit."""
_SLOT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Strike:
    """An attempt that failed by a fault of the proxy.

    ``hop`` is the time that connecting, TLS and the greeting took, ``None`` if it failed before.
    """

    began: float
    ended: float
    failure: HopFailure
    hop: float | None = None

    @property
    def sent(self) -> float:
        """When the first packet was sent that had no good answer, as far as is known."""
        return self.began + (self.hop or 0.0)

    @property
    def greeted(self) -> bool:
        """It failed after the greeting: another greeting would not show what is wrong."""
        return self.hop is not None


class Circuit:
    """The circuit of one proxy.

    ``retry_at`` is when an open circuit may be used again. ``since`` is when the state began, and
    ``why`` says in words why the circuit opened. ``limited``: it is open because the proxy asked
    for a pause, which is no fault. ``trial`` is when the trial of a half-open circuit began, and
    ``idle_since`` from when on there was none. ``greetable``: a greeting would show whether the
    proxy has recovered.
    """

    __slots__ = (
        "_closed_at",
        "_down_since",
        "_good_since",
        "_opened_at",
        "_random",
        "_recent",
        "_run",
        "_successes",
        "greetable",
        "idle_since",
        "limited",
        "retry_at",
        "since",
        "state",
        "trial",
        "why",
    )

    def __init__(self, rng: random.Random, now: float) -> None:
        self._random = rng
        self.state: State = "closed"
        self.since = now
        self.retry_at: float | None = None
        self.why = ""
        self.limited = False
        self.greetable = False
        self.trial: float | None = None
        self.idle_since = now
        self._run: list[tuple[float, Strike]] = []
        self._recent = _Recent()
        self._successes = 0
        self._good_since = self._opened_at = self._closed_at = self._down_since = float("-inf")

    # -- events

    def succeeded(self, began: float, now: float) -> None:
        """An attempt that began then has succeeded."""
        self._good_since = max(self._good_since, began)
        self._run = [(at, strike) for at, strike in self._run if strike.began > began]
        if self._is_trusted:
            self._recent.add(now, fault=False)
            return
        self.ended(began, now)
        if began < self._opened_at:
            return
        self._successes += 1
        if self._successes >= TO_CLOSE:
            self._close(now)
        elif self.state == "open":  # a connection that kept its proxy was quicker than the trial
            self._half_open(now)

    def struck(self, strike: Strike, now: float) -> None:
        """An attempt has failed by a fault of the proxy."""
        if strike.began < self._good_since:
            return  # a later attempt has succeeded: this one says nothing about now
        if self._is_trusted:
            self._run = [*self._run, (now, strike)][-IN_A_ROW:]
            self._recent.add(now, fault=True)
            if why := self._too_much(now):
                self._open(now, strike, why, greetable=not any(s.greeted for _, s in self._run))
        elif self.state == "half-open" and strike.began >= self.since:
            why = Sentence(
                "trial_failed", "a trial failed: {reason}", reason=strike.failure.reason.value
            )
            self._open(now, strike, why, greetable=not strike.greeted and self.greetable)

    def paused(self, began: float, now: float, seconds: float | None) -> None:
        """The proxy has answered that it serves too much, and wants to be asked again after this
        time."""
        if began < self._good_since:
            return
        pause = min(max(PAUSE if seconds is None else seconds, SHORTEST_PAUSE), LONGEST_PAUSE)
        if self.state == "open":
            assert self.retry_at is not None
            self.retry_at = max(self.retry_at, now + pause)
            return
        self.limited = self.state == "closed"
        self.why = Sentence(
            "asked_for_pause", "it asked for a pause of {seconds} s", seconds=f"{pause:.3g}"
        )
        self.state, self.since, self.retry_at, self.trial = "open", now, now + pause, None

    def ended(self, began: float, now: float) -> None:
        """An attempt that began then has ended, however it did: it was the trial if there is
        one."""
        if self.trial is not None and began >= self.trial:
            self.trial, self.idle_since = None, now

    def take(self, now: float) -> bool:
        """An attempt begins: it is the trial if the circuit waits for one. Returns whether it
        is."""
        if self.state != "half-open" or self.trial is not None:
            return False
        self.trial = now
        return True

    def give_back(self, began: float) -> bool:
        """The trial that began then did not come to an attempt. Returns whether it was under
        way. Nobody has tried the proxy: it is as idle as before."""
        if self.trial != began:
            return False
        self.trial = None
        return True

    def advance(self, now: float) -> None:
        """Do what was due until ``now``."""
        if self.retry_at is not None and now >= self.retry_at:
            at = self.retry_at
            if self.limited:
                self._close(at)
            else:
                self._half_open(at)
        if self.trial is not None and now >= self.trial + TRIAL_LIMIT:
            self.idle_since = self.trial + TRIAL_LIMIT
            self.trial = None

    def reset(self, now: float) -> None:
        """Close the circuit and forget what led to it. What began before says nothing more."""
        self._close(now)
        self._good_since = now
        self._closed_at = float("-inf")

    @property
    def wakes_at(self) -> float | None:
        """When ``advance`` has something to do."""
        if self.trial is not None:
            return self.trial + TRIAL_LIMIT
        return self.retry_at

    # -- transitions

    @property
    def _is_trusted(self) -> bool:
        """Whether the proxy counts as working: it is not used because it asked for a pause."""
        return self.state == "closed" or self.limited

    def _too_much(self, now: float) -> str:
        """Why the strikes so far open the circuit, or nothing."""
        run = self._run
        if len(run) == IN_A_ROW and now - run[0][0] <= SPAN:
            words = Counter(strike.failure.reason.value for _, strike in run)
            strikes = [
                Sentence("strike", "{number} x {reason}", number=number, reason=word)
                for word, number in words.items()
            ]
            return Sentence("strikes", "{strikes}", strikes=strikes)
        attempts, faults = self._recent.within(now)
        if attempts >= AT_LEAST and faults >= SHARE * attempts:
            often = "{faults} of {attempts} attempts failed within {seconds} s"
            return Sentence(
                "strikes_share", often, faults=faults, attempts=attempts, seconds=round(SPAN)
            )
        return ""

    def _open(self, now: float, strike: Strike, why: str, *, greetable: bool) -> None:
        if self._is_trusted:
            # A proxy that fails again right after its circuit closed had not recovered.
            if now - self._closed_at > SPAN:
                self._down_since = now
            rest = FIRST_REST if self._down_since == now else self._next_rest(now)
        else:
            rest = self._next_rest(now)
        if strike.failure.cause is Cause.CREDENTIALS:
            rest = max(rest, CREDENTIALS_REST / (1 - JITTER))
        pause = self.retry_at if self.limited and self.retry_at else now
        rest *= self._random.uniform(1 - JITTER, 1 + JITTER)
        self._clear()
        self.state, self.since, self.why, self.greetable = "open", now, why, greetable
        self.retry_at, self._opened_at = max(now + rest, pause), now

    def _next_rest(self, now: float) -> float:
        return min(max(GROWTH * (now - self._down_since), LEAST_REST), LONGEST_REST)

    def _half_open(self, at: float) -> None:
        self.state, self.since, self.retry_at = "half-open", at, None
        self.trial, self.idle_since = None, at

    def _close(self, at: float) -> None:
        was_down = not self._is_trusted
        self._clear()
        self.state, self.since, self.why = "closed", at, ""
        if was_down:
            self._closed_at = at

    def _clear(self) -> None:
        self.retry_at, self.trial, self.limited = None, None, False
        self._run, self._recent, self._successes = [], _Recent(), 0


class _Recent:
    """How many attempts and strikes there were within about ``SPAN``, in slots of ten seconds."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: list[list[int]] = []

    def add(self, now: float, *, fault: bool) -> None:
        slot = int(now // _SLOT)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots = [*self._slots, [slot, 0, 0]][-int(SPAN / _SLOT) :]
        self._slots[-1][1] += 1
        self._slots[-1][2] += fault

    def within(self, now: float) -> tuple[int, int]:
        oldest = now // _SLOT - SPAN / _SLOT
        kept = [slot for slot in self._slots if slot[0] > oldest]
        return sum(slot[1] for slot in kept), sum(slot[2] for slot in kept)
