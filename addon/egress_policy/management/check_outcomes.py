"""Reports what came of each greeting and check in the background, and counts it."""

from collections import Counter
from typing import Literal

from ..errors import Reason
from ..log import get_logger
from ..model.decision import Egress, Place
from ..policy.fault import Cause
from ..policy.hop import HopFailure, Outcome
from ..sentence import Sentence
from .prober import Report, proxy_of

logger = get_logger(__name__)

CheckOutcome = Literal["ok", "failed", "undecided", "untried", "replaced"]
"""``untried``: nothing was sent, or nobody is to blame. ``replaced``: there was traffic instead."""


class CheckOutcomes:
    """``report`` takes in what came of each dial and attempt, as it does for live flows."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.counts: Counter[CheckOutcome] = Counter()

    def tell(self, egress: Egress, target: Place, pool: str, outcome: Outcome) -> None:
        """Take in an outcome. Raises nothing: a greeting or check goes on whatever happens here."""
        if outcome.step == "attempt":
            self.counts[_word(outcome)] += 1
        try:
            self._report(egress, target, pool, outcome)
        except Exception:
            logger.exception(f"Egress: the check of proxy {egress.name} could not be reported")


def hop_of(egress: Egress) -> Place:
    """The place of a proxy, which is the target of a greeting."""
    proxy = proxy_of(egress)
    return proxy.host, proxy.port


def unended(at: float) -> Outcome:
    """The outcome of what is cancelled, and the time it began at: nobody is to blame."""
    what = Sentence("check_ended", "the check was ended")
    return Outcome("attempt", "", HopFailure(Reason.ERROR, what, Cause.NOBODY), at, at)


def _word(outcome: Outcome) -> CheckOutcome:
    if outcome.failure is None:
        return "ok"
    match outcome.failure.judgement.fault:
        case "proxy":
            return "failed"
        case "undecided" | "target":
            return "undecided"
    return "untried"
