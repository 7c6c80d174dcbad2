"""Rules in their order: how they are shown, changed and moved."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, override

from ..model.family import ProxyFamily
from ..model.proxy import (
    ExitFamily,
    Health,
    PlainHttp,
    Proxy,
    ProxyStatus,
    ProxyType,
    TargetFamily,
)
from ..model.rule import Rule
from ..registry.records import StoredRule
from .kind import Fields, Kind, Row
from .merge import file_rules
from .proxies import proxy_fields
from .rule_facts import FactsView, RuleFacts
from .upkeep import Upkeep
from .views import FILE_ID, Entry, Secret, View, entry_fields


class InlineProxyView(View):
    """The proxy object of a rule."""

    name: str
    type: ProxyType
    host: str
    port: int
    username: str = ""
    password: Secret
    family: ProxyFamily
    target_family: TargetFamily | None = None
    plain_http: PlainHttp
    region: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    status: ProxyStatus
    health: Health
    max_connections: int
    exit_family: ExitFamily | None = None
    exit_in: tuple[str, ...] = ()
    exit_enforce: bool


class RuleContent(Entry):
    """A rule. ``number`` counts from 1 within its source; ``label`` is what flows are marked
    with."""

    number: int
    label: str
    name: str = ""
    hosts: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    filter: str = ""
    use: str | InlineProxyView
    family: ProxyFamily | None = None
    target_family: TargetFamily | None = None


class RuleView(FactsView, RuleContent):
    """A rule, and what is known of it."""


class Rules(Kind[RuleView]):
    """Those of the policy file come first. Assignments are not among them."""

    noun, plural, model, view = "rule", "rules", Rule, RuleView

    def __init__(self, upkeep: Upkeep, facts: RuleFacts) -> None:
        super().__init__(upkeep)
        self._facts = facts

    @override
    async def prepare(self) -> None:
        await super().prepare()
        await self._facts.prepare()

    @override
    async def create(self, fields: Fields, before: str | None = None) -> RuleView:
        """Put a rule before another rule of the registry, or at the end."""
        place = None if before is None else await self.find_own(before)
        return await self._write(lambda edit: edit.rules.create(fields, place))

    async def move(self, key: str, before: str | None, if_match: str | None = None) -> RuleView:
        """Put a rule before another rule of the registry, or at the end."""
        id_ = await self.find_own(key)
        place = None if before is None else await self.find_own(before)
        return await self._write(lambda edit: edit.rules.move(id_, place, if_match))

    async def reorder(self, ids: Sequence[str]) -> None:
        """Put the rules in this order. Raises ``Conflict`` unless each is named once."""
        await self._upkeep.change(lambda edit: edit.rules.reorder(ids))

    @override
    def _rows(self) -> Iterable[Row[RuleView]]:
        in_force = self._in_force
        for number, (label, rule) in enumerate(file_rules(in_force.file, in_force.state), 1):
            about = {"id": f"{FILE_ID}{number}", "source": "file"}
            yield Row(about["id"], label, partial(self._view, about, number, label, rule))
        for stored in in_force.stored.rules:
            yield Row(stored.id, stored.label, partial(self._stored_view, stored))

    def _stored_view(self, stored: StoredRule) -> RuleView:
        return self._view(entry_fields(stored), stored.number, stored.label, stored.rule)

    def _view(self, about: dict[str, Any], number: int, label: str, rule: Rule) -> RuleView:
        facts = self._facts.of(label)
        return RuleView(**about, number=number, label=label, **_fields(rule), **facts)


def _fields(rule: Rule) -> dict[str, Any]:
    use = rule.use
    return {
        **rule.model_dump(exclude={"use", "clients"}),
        "clients": tuple(map(str, rule.clients)),
        "use": InlineProxyView(**proxy_fields(use)) if isinstance(use, Proxy) else use,
    }
