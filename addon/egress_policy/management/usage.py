"""Which entries name a proxy or a pool."""

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
    """Answers from memory, by the policy in force."""

    def __init__(self, in_force: PolicyInForce) -> None:
        self._in_force = in_force
        self._counts: tuple[Policy, Counter[str]] | None = None

    def count(self, name: str) -> int:
        """How many pools, rules and assignments name an entry."""
        policy = self._in_force.policy
        if self._counts is None or self._counts[0] is not policy:
            self._counts = (policy, Counter(_names_used(policy)))
        return self._counts[1][name]

    def of(self, name: str) -> UsageView:
        """What names an entry; the policy file comes first."""
        file, state = self._in_force.filed, self._in_force.stored
        pools = [(FILE_ID + one.name, one) for one in file.pools]
        pools += [(one.id, one.pool) for one in state.pools if one.pool]
        rules = [
            (f"{FILE_ID}{number}", label, rule)
            for number, (label, rule) in enumerate(file_rules(file, state), 1)
        ]
        rules += [(one.id, one.label, one.labelled) for one in state.rules]
        assigned = [(one.id, one.label, one.rule) for one in state.assignments]
        named = (
            _refs((id_, pool.name) for id_, pool in pools if name in pool.names),
            _refs((id_, label) for id_, label, rule in rules if rule.use == name),
            _refs((id_, label) for id_, label, rule in assigned if rule.use == name),
        )
        count = sum(map(len, named))
        return UsageView(count=count, pools=named[0], rules=named[1], assignments=named[2])


def _refs(named: Iterable[tuple[str, str]]) -> tuple[RefView, ...]:
    return tuple(RefView(id=id_, name=name) for id_, name in named)


def _names_used(policy: Policy) -> Iterable[str]:
    for pool in policy.pools:
        yield from pool.names
    for rule in policy.rules:
        if isinstance(rule.use, str):
            yield rule.use
