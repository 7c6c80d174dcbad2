"""Whether a proxy or the target behind it is to blame where the failure does not tell. Pure.

A proxy answers 502, or says nothing more once it knows the target: either may have failed. It
counts against the proxy only where the target works through another member of a pool meanwhile, as
``blame.py`` weighs it. Where the target fails there too, nobody is blamed.
"""

from collections import OrderedDict
from typing import Final

from ...model.decision import Place
from .blame import Blame, Proven
from .circuit import Strike

TARGETS: Final = 4096
"""Targets that are remembered, those that were used last."""


class TargetEvidence:
    """What came of the same targets through different members. ``key`` is an ``Egress.hop_key``."""

    def __init__(self) -> None:
        self._targets: OrderedDict[Place, Blame] = OrderedDict()

    def worked(self, target: Place, key: str, ended: float) -> Proven:
        """A tunnel to the target stood then. Returns what that proves against other members."""
        return self._blame(target).worked(key, ended)

    def convicts(self, target: Place, key: str, strike: Strike) -> bool:
        """Whether a failure that may be the target's counts against the member."""
        blame = self._blame(target)
        if blame.failed(key, key, strike):
            return True
        if blame.excuse(key):
            blame.forget(key)
        return False

    def excuse(self, target: Place, key: str) -> None:
        """Through this member the target itself has failed."""
        if blame := self._targets.get(target):
            blame.excuse(key)

    def _blame(self, target: Place) -> Blame:
        blame = self._targets.get(target)
        if blame is None:
            blame = self._targets[target] = Blame()
            if len(self._targets) > TARGETS:
                self._targets.popitem(last=False)
        else:
            self._targets.move_to_end(target)
        return blame
