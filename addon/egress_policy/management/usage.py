"""Who names a proxy or a pool."""

from collections import Counter
from collections.abc import Iterable

from ..model.rule import Policy
from .in_force import PolicyInForce
from .merge import file_rules
from .views import FILE_ID, View


class RefView(View):
    id: str
    name: str


class UsageView(View):
    """What names an entry. ``count`` is that of all three."""

    count: int
    pools: tuple[RefView, ...] = ()
    rules: tuple[RefView, ...] = ()
    assignments: tuple[RefView, ...] = ()


class Uses:
    """Of the policy in force, from memory."""

    def __init__(self, in_force: PolicyInForce) -> None:
        self._in_force = in_force
        self._counts: tuple[Policy, Counter[str]] | None = None

    def count(self, name: str) -> int:
        """How many pools, rules and assignments name it."""
        policy = self._in_force.policy
        if self._counts is None or self._counts[0] is not policy:
            self._counts = (policy, Counter(_names_used(policy)))
        return self._counts[1][name]

    def of(self, name: str) -> UsageView:
        """What names it, file first."""
        file, state = self._in_force.file, self._in_force.state
        file_pools = [(FILE_ID + one.name, one) for one in (file.pools if file else ())]
        own_pools = [(one.id, one.pool) for one in (state.pools if state else ()) if one.pool]
        pools = [(id_, one.name) for id_, one in (*file_pools, *own_pools) if name in one.members]
        rules = [
            *(
                (f"{FILE_ID}{number}", label)
                for number, (label, rule) in enumerate(file_rules(file, state), 1)
                if rule.use == name
            ),
            *(
                (one.id, one.label)
                for one in (state.rules if state else ())
                if one.labelled.use == name
            ),
        ]
        assigned = [
            (one.id, one.label)
            for one in (state.assignments if state else ())
            if one.rule.use == name
        ]
        return UsageView(
            count=len(pools) + len(rules) + len(assigned),
            pools=_refs(pools),
            rules=_refs(rules),
            assignments=_refs(assigned),
        )


def _refs(named: Iterable[tuple[str, str]]) -> tuple[RefView, ...]:
    return tuple(RefView(id=id_, name=name) for id_, name in named)


def _names_used(policy: Policy) -> Iterable[str]:
    for pool in policy.pools:
        yield from pool.members
    for rule in policy.rules:
        if isinstance(rule.use, str):
            yield rule.use
