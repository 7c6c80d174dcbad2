"""The registry's entries as values. Frozen, free of secrets in their ``repr``."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..model.proxy import Proxy
from ..model.rule import FilterCompiler, Pool, Rule

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What every entry has. Times are ISO 8601 in UTC; ``etag`` is another after each change.

    ``problem`` says why the entry, as it lies in the database, cannot be used; it is empty if it
    can.
    """

    id: str
    created_at: str
    updated_at: str
    etag: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProxy(Stored):
    """A proxy; ``proxy`` is ``None`` where there is a problem. ``raw`` are the columns, except for
    the password."""

    name: str
    raw: Row
    proxy: Proxy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPool(Stored):
    """A pool; ``pool`` is ``None`` where there is a problem. ``raw`` are the columns. A member that
    was deleted is called ``<name> (deleted <id>)``, which names nothing."""

    name: str
    raw: Row
    pool: Pool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRule(Stored):
    """A rule and its number, from 1. Where there is a problem ``rule`` stands in for it: it
    refuses what it matches, and everything if its conditions cannot be read.

    What was deleted is called ``<name> (deleted <id>)`` in ``rule.use``, which names nothing.
    """

    number: int
    labelled: Rule
    """The rule with its label for a name."""
    named: bool
    """Whether that is a name of its own."""

    @property
    def rule(self) -> Rule:
        """The rule as it was entered."""
        return self.labelled if self.named else self.labelled.model_copy(update={"name": ""})

    @property
    def label(self) -> str:
        """What a snapshot calls it: its name, or ``#`` and its number."""
        return self.labelled.name

    def numbered(self, number: int) -> "StoredRule":
        """The same at another place."""
        if number == self.number:
            return self
        labelled = self.labelled
        if not self.named:
            labelled = labelled.model_copy(update={"name": rule_label(number)})
        return replace(self, number=number, labelled=labelled)


def rule_label(number: int) -> str:
    """What a rule without a name is called."""
    return f"#{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAssignment(Stored):
    """What a scope is assigned to. ``rule`` does it; where there is a problem it refuses."""

    scope: str
    scope_id: str
    proxy_id: str
    rule: Rule

    @property
    def label(self) -> str:
        """What a snapshot calls it, and a usage."""
        return f"{self.scope}:{self.scope_id}"


@dataclass(frozen=True, slots=True)
class RegistryState:
    """All that the registry held at one moment: proxies and pools by name, rules in order."""

    revision: int
    proxies: tuple[StoredProxy, ...]
    pools: tuple[StoredPool, ...]
    rules: tuple[StoredRule, ...]
    assignments: tuple[StoredAssignment, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PolicyFileNames:
    """What stands outside of the registry: the names of ``proxies`` and ``pools`` that the policy
    file states, which rules and pools may use, and how filters are compiled (``None``: filters
    are taken as they are)."""

    proxies: Collection[str] = ()
    pools: Collection[str] = ()
    compile_filter: FilterCompiler | None = None
