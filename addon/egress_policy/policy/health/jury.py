"""Which failures count against a proxy, where our own network or the target may be to blame. Pure.

It hears of each attempt. A failure that is in doubt counts later, once something else that worked
proves it. ``blame.py`` says what is such a proof.
"""

from ...model.decision import Egress, Place
from ..fault import Cause
from ..hop import Outcome
from .blame import Proven
from .circuit import Strike
from .evidence import TargetEvidence
from .own_network import OwnNetwork


class Jury:
    """``key`` is an ``Egress.hop_key``. ``pool`` names the pool that the egress was picked from."""

    def __init__(self) -> None:
        self._network = OwnNetwork()
        self._targets = TargetEvidence()

    def heard(self, egress: Egress, outcome: Outcome) -> Proven:
        """Take in what an outcome tells about our own network. Returns what that proves of other
        proxies."""
        address, began, ended = outcome.address, outcome.began, outcome.ended
        failure = outcome.failure
        if failure is None or failure.cause is Cause.REFUSED:
            return self._network.answered(address, began, ended)
        if failure.cause is Cause.NO_ANSWER and egress.proxy and outcome.step == "dial":
            self._network.silent(address, began, ended)
        return []

    def worked(self, target: Place, key: str, ended: float) -> Proven:
        """A member of a pool reached a target. Returns what that proves of others."""
        return self._targets.worked(target, key, ended)

    def convicts(
        self,
        key: str,
        target: Place,
        pool: str,
        address: str,
        strike: Strike,
        *,
        on_trial: bool,
    ) -> bool:
        """Whether a failure at ``address`` counts against the proxy, as far as is known now.

        Doubt keeps circuits closed. It is no reason to go on trying a proxy that had failed:
        ``on_trial`` says that its circuit is half-open.
        """
        cause, pooled = strike.failure.cause, bool(pool)
        if cause is Cause.NO_ANSWER:
            return self._network.convicts_address(key, address, strike, pooled=pooled) or on_trial
        if cause is Cause.SILENT:
            return self._network.convicts_server(key, address, strike) or on_trial
        if cause is Cause.UNDECIDED:
            return pooled and self._targets.convicts(target, key, strike)
        if cause is Cause.TARGET and pooled:
            self._targets.excuse(target, key)
        return strike.failure.judgement.counts

    def suspicion(self, now: float) -> str:
        """Why our own network seems to be down, empty if it does not."""
        return self._network.suspicion(now)
