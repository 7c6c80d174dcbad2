"""The registry's entries as values. Frozen, free of secrets in their ``repr``. Imports no database.

An entry may have been edited by hand in the database. Its ``problem`` then says why it cannot be
used; that never removes a pin, a condition or an egress from a rule.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import BaseModel

from ..model.pool import Pool
from ..model.proxy import Proxy
from ..model.rule import FilterCompiler, Rule
from ..model.subscription import ListSubscription

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What every entry has. Times are ISO 8601 in UTC; each change makes another ``etag``.

    ``problem`` is empty if the entry can be used.
    """

    id: str
    created_at: str
    updated_at: str
    etag: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry[M: BaseModel](Stored):
    """An entry with a name. ``value`` is ``None`` where there is a problem. ``raw`` has the
    columns, except for the password."""

    name: str
    raw: Row
    value: M | None


class StoredProxy(StoredEntry[Proxy]):
    """An upstream proxy."""

    __slots__ = ()

    @property
    def subscription_id(self) -> str:
        """The id of the subscription that brought it, empty for none."""
        return str(self.raw.get("subscription_id") or "")

    @property
    def proxy(self) -> Proxy | None:
        return self.value


class StoredSubscription(StoredEntry[ListSubscription]):
    """A list of proxies behind a URL."""

    __slots__ = ()


class StoredPool(StoredEntry[Pool]):
    """A pool. A deleted member is called ``<name> (deleted <id>)``, which names nothing."""

    __slots__ = ()

    @property
    def pool(self) -> Pool | None:
        return self.value


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
    """Whether the label is a name of its own."""

    @property
    def rule(self) -> Rule:
        """The rule as it was entered."""
        return self.labelled if self.named else self.labelled.model_copy(update={"name": ""})

    @property
    def label(self) -> str:
        """What a snapshot calls it: its name, or ``#`` and its number."""
        return self.labelled.name

    def numbered(self, number: int) -> "StoredRule":
        """The rule when it stands at another place."""
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
    """The proxy that a scope leaves by. ``rule`` does it; where there is a problem it refuses.

    Scopes of one ``group`` should not share an exit. It is empty for none.
    """

    scope: str
    scope_id: str
    proxy_id: str
    rule: Rule
    group: str = ""

    @property
    def label(self) -> str:
        """What a snapshot and a usage call it."""
        return f"{self.scope}:{self.scope_id}"


@dataclass(frozen=True, slots=True)
class RegistryState:
    """All that the registry held at one moment. ``entries`` has those of each kind by its plural:
    in order of their names, but rules in the order in which they are asked."""

    revision: int
    entries: Mapping[str, tuple[Stored, ...]]
    settings: Mapping[str, str]

    @property
    def proxies(self) -> tuple[StoredProxy, ...]:
        return cast("tuple[StoredProxy, ...]", self.entries.get("proxies", ()))

    @property
    def pools(self) -> tuple[StoredPool, ...]:
        return cast("tuple[StoredPool, ...]", self.entries.get("pools", ()))

    @property
    def rules(self) -> tuple[StoredRule, ...]:
        return cast("tuple[StoredRule, ...]", self.entries.get("rules", ()))

    @property
    def assignments(self) -> tuple[StoredAssignment, ...]:
        return cast("tuple[StoredAssignment, ...]", self.entries.get("assignments", ()))

    @property
    def subscriptions(self) -> tuple[StoredSubscription, ...]:
        return cast("tuple[StoredSubscription, ...]", self.entries.get("subscriptions", ()))


@dataclass(frozen=True, slots=True)
class PolicyFileNames:
    """What rules and pools may use outside of the registry: the names of the ``proxies`` and
    ``pools`` in the policy file. ``compile_filter`` checks filters; without one they are taken as
    they are."""

    proxies: Collection[str] = ()
    pools: Collection[str] = ()
    compile_filter: FilterCompiler | None = None
