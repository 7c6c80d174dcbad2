"""What is known of the rules in force beside what they say: why one refuses, whether it can ever
decide, and how many flows it decided. Found once for each policy, when it is first asked for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import Reason
from ..policy.engine import DEFAULT_RULE
from ..policy.snapshot import Snapshot
from ..policy.unreachable import unreachable
from .hits import Hit
from .views import Spoken

_NAMED: Final = 3
"""How many earlier rules a sentence names."""


class FactsView(Spoken):
    """``refuses`` says why the rule refuses for want of what it names; empty if it does not.

    ``never`` says why it never decides, and ``never_by`` has the labels of the earlier rules that
    always decide before it; both are empty where that cannot be proved. ``hits`` counts flows since
    the start, or since the rule was edited; ``last_hit`` is when the last one ended. Both are
    ``None`` where no flow leaves by this process.
    """

    refuses: str = ""
    never: str = ""
    never_by: tuple[str, ...] = ()
    hits: int | None = None
    last_hit: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """By the labels of rules. Of several rules with one label, what holds for all of them."""

    snapshot: Snapshot
    refusals: Mapping[str, str]
    lost: Mapping[str, tuple[str, ...]]


class RuleFacts:
    """``snapshot`` gives the policy in force, ``hits`` what was counted for a label; ``None`` where
    nothing is counted."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        hits: Callable[[str], Hit | None] = lambda _: None,
    ) -> None:
        self._snapshot, self._hits = snapshot, hits
        self._found: _Found | None = None

    async def prepare(self) -> None:
        """Find in a thread what takes long where there are thousands of rules."""
        snapshot = self._snapshot()
        if self._found is None or self._found.snapshot is not snapshot:
            self._found = await asyncio.to_thread(_find, snapshot)

    def of(self, label: str) -> dict[str, Any]:
        """The fields of ``FactsView`` for the rule with this label, or for the default."""
        snapshot = self._snapshot()
        if self._found is None or self._found.snapshot is not snapshot:
            self._found = _find(snapshot)
        before, hit = self._found.lost.get(label, ()), self._hits(label)
        return {
            "refuses": self._found.refusals.get(label, ""),
            "never": why_never(before),
            "never_by": before,
            "hits": None if hit is None else 0 if before else hit.count,
            "last_hit": None if hit is None or before else hit.last_hit,
        }


def why_never(before: Sequence[str]) -> str:
    """A clause that names the earlier rules that always decide; empty without any."""
    if not before:
        return ""
    if len(before) == 1:
        return f"rule {before[0]} before it matches all that it matches"
    named = ", ".join(before[:_NAMED])
    more = f" and {len(before) - _NAMED} more" if len(before) > _NAMED else ""
    return f"rules {named}{more} before it together match all that it matches"


def lost_rules(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """The labels of rules that never decide, and of the default, each with those of the earlier
    rules that always decide before it. Of several rules with one label, all are lost."""
    labels = [*(bound.label for bound in snapshot.rules), DEFAULT_RULE]
    found = unreachable([bound.rule for bound in snapshot.rules])
    reached = {label for number, label in enumerate(labels) if number not in found}
    return {
        labels[number]: tuple(labels[one] for one in before)
        for number, before in found.items()
        if labels[number] not in reached
    }


def _find(snapshot: Snapshot) -> _Found:
    refusing = ((one.label, one.resolution.refusal) for one in snapshot.rules)
    refusals = {
        label: refusal.detail
        for label, refusal in refusing
        if refusal and refusal.reason is not Reason.RULE
    }
    return _Found(snapshot, refusals, lost_rules(snapshot))
