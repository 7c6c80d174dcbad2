"""How many flows each rule decided, and when the last of them ended. In memory, and bounded.

A rule is known by its conditions and by what it uses: its count survives edits of other rules,
another place and another name, and starts again when the rule itself is edited. For the loop only.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ..model.rule import Rule
from ..model.words import iso_time
from ..policy.engine import DEFAULT_RULE
from ..policy.snapshot import Snapshot
from .live import LiveEvent

REMEMBERED: Final = 20_000
"""Rules whose counts are kept. The one that was first counted longest ago makes room."""


@dataclass(slots=True)
class Hit:
    """``last`` is in seconds since the epoch."""

    count: int = 0
    last: float | None = None

    @property
    def last_hit(self) -> str | None:
        """In ISO 8601 in UTC."""
        return None if self.last is None else iso_time(datetime.fromtimestamp(self.last, UTC))


class Hits:
    """``snapshot`` gives the policy in force.

    A flow counts when it ends, for the rule that has the label then by which the flow was decided.
    Rules that share a label share its count.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot_now = snapshot
        self._snapshot: Snapshot | None = None
        self._by_label: dict[str, Hit] = {}
        """For the labels of the snapshot that flows had."""
        self._rules: dict[str, Rule | None] | None = None
        """The rule of each label, ``None`` where several share it. Made when it is needed."""
        self._kept: OrderedDict[Hashable, Hit] = OrderedDict()

    def ended(self, event: LiveEvent) -> None:
        """Count a flow."""
        self._refresh()
        hit = self._by_label.get(event.rule) or self._begun(event.rule)
        if hit:
            hit.count += 1
            hit.last = event.at

    def of(self, label: str) -> Hit:
        """What was counted for the rule with this label, or for ``default``."""
        self._refresh()
        hit = self._by_label.get(label)
        return hit or self._kept.get(self._key(label)) or Hit()

    def _begun(self, label: str) -> Hit | None:
        key = self._key(label)
        if key is None:  # the flow was decided by a rule that is gone
            return None
        hit = self._kept.get(key)
        if hit is None:
            hit = self._kept[key] = Hit()
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        self._by_label[label] = hit
        return hit

    def _key(self, label: str) -> Hashable | None:
        if self._rules is None:
            self._rules = {}
            for bound in self._snapshot.rules if self._snapshot else ():
                self._rules[bound.label] = None if bound.label in self._rules else bound.rule
        rule = self._rules.get(label)
        if rule is not None:
            return _content(rule)
        return label if label in self._rules or label == DEFAULT_RULE else None

    def _refresh(self) -> None:
        snapshot = self._snapshot_now()
        if snapshot is not self._snapshot:
            self._snapshot, self._rules = snapshot, None
            self._by_label.clear()


def _content(rule: Rule) -> Hashable:
    use = rule.use if isinstance(rule.use, str) else ("proxy", rule.use.name)
    conditions = rule.hosts, rule.clients, rule.ports, rule.filter
    return (*conditions, use, rule.family, rule.target_family)
