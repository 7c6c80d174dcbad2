"""All that decides, in the order in which it is asked: the rules of the policy file, assignments,
the rules of the registry, the global assignment, and the default."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Literal

from ..model.family import ProxyFamily
from ..model.proxy import Proxy, TargetFamily
from ..model.rule import Rule
from ..policy.engine import DEFAULT_RULE
from ..policy.snapshot import BoundRule
from ..registry.precedence import in_order
from ..registry.records import StoredAssignment, StoredRule
from .in_force import PolicyInForce
from .rule_facts import FactsView, RuleFacts
from .views import FILE_ID, PageInfo, View

Origin = Literal["file", "assignment", "registry", "global", "default"]


class OrderedRule(FactsView):
    """One of them. ``number`` counts from 1, ``label`` is what flows are marked with. ``id`` and
    ``etag`` are those of the rule or assignment, ``None`` and empty for the default. ``use`` is the
    name of a proxy or pool, ``direct`` or ``refuse``. ``group`` is that of an assignment.
    """

    number: int
    origin: Origin
    id: str | None
    etag: str = ""
    label: str
    hosts: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    filter: str = ""
    use: str
    family: ProxyFamily | None = None
    target_family: TargetFamily | None = None
    group: str = ""
    problem: str = ""


class RuleOrderView(View):
    items: tuple[OrderedRule, ...]
    page: PageInfo


_Source = tuple[Origin, str, str, str, str]
"""Origin, id, etag, group and problem."""


class RuleOrder:
    """For the loop only."""

    def __init__(self, in_force: PolicyInForce, facts: RuleFacts) -> None:
        self._in_force, self._facts = in_force, facts

    async def list(self, *, limit: int = 50, offset: int = 0, q: str = "") -> RuleOrderView:
        """``q`` is looked for in label, hosts, clients, ports, filter and use."""
        await self._facts.prepare()
        snapshot, sources = self._in_force.snapshot, [*self._sources()]
        wanted = q.casefold()
        numbers: Sequence[int] = range(len(snapshot.rules) + 1)
        if wanted:
            texts = chain(map(_text, snapshot.rules), [f"{DEFAULT_RULE}\n{snapshot.default}"])
            numbers = [number for number, text in enumerate(texts) if wanted in text.casefold()]
        return RuleOrderView(
            items=tuple(
                self._of_rule(number, snapshot.rules[number], sources[number])
                if number < len(snapshot.rules)
                else self._of_default(number)
                for number in numbers[offset : offset + limit]
            ),
            page=PageInfo(limit=limit, offset=offset, total=len(numbers)),
        )

    def _sources(self) -> Iterator[_Source]:
        """Where each rule of the snapshot comes from, in its order."""
        inputs = self._in_force.opened.made.inputs
        for number in range(1, len(inputs.file.rules if inputs.file else ()) + 1):
            yield "file", f"{FILE_ID}{number}", "", "", ""
        for stored in in_order(inputs.state) if inputs.state else ():
            group = stored.group if isinstance(stored, StoredAssignment) else ""
            yield _origin(stored), stored.id, stored.etag, group, stored.problem

    def _of_rule(self, number: int, bound: BoundRule, source: _Source) -> OrderedRule:
        origin, id_, etag, group, problem = source
        return OrderedRule(
            number=number + 1,
            origin=origin,
            id=id_,
            etag=etag,
            group=group,
            problem=problem,
            label=bound.label,
            **_fields(bound.rule),
            **self._facts.of(bound.label),
        )

    def _of_default(self, number: int) -> OrderedRule:
        return OrderedRule(
            number=number + 1,
            origin="default",
            id=None,
            label=DEFAULT_RULE,
            use=self._in_force.snapshot.default,
            **self._facts.of(DEFAULT_RULE),
        )


def _origin(stored: StoredAssignment | StoredRule) -> Origin:
    if isinstance(stored, StoredRule):
        return "registry"
    return "global" if stored.scope == "global" else "assignment"


def _fields(rule: Rule) -> dict[str, Any]:
    return {
        "hosts": rule.hosts,
        "clients": tuple(map(str, rule.clients)),
        "ports": rule.ports,
        "filter": rule.filter,
        "use": _used(rule),
        "family": rule.family,
        "target_family": rule.target_family,
    }


def _used(rule: Rule) -> str:
    return rule.use.name if isinstance(rule.use, Proxy) else rule.use


def _text(bound: BoundRule) -> str:
    rule = bound.rule
    conditions = (*rule.hosts, *map(str, rule.clients), *map(str, rule.ports), rule.filter)
    return "\n".join((bound.label, *conditions, _used(rule)))
