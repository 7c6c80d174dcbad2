"""Policy file and registry to one policy: the file's rules first, then the registry's.

A name belongs to one of them. The registry takes no name that the file has. If the file takes the
name later, the entry of the registry becomes unusable, and what uses it there refuses.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..errors import InvalidEntry
from ..model.pool import Pool
from ..model.proxy import Proxy
from ..model.rule import REFUSE, FilterCompiler, Policy, Rule, name_of_shadowed
from ..registry.precedence import policy_of
from ..registry.records import RegistryState, StoredPool, StoredProxy
from ..sentence import Sentence

STATED_TWICE = Sentence("name_in_both", "the policy file has this name too; rename one of them")


@dataclass(frozen=True)
class Merged:
    """The policy, and the names in it that stand for nothing usable, each with the reason."""

    policy: Policy
    unusable: Mapping[str, str]


def merge(file: Policy, state: RegistryState | None, compile_filter: FilterCompiler) -> Merged:
    """Unchanged entries stay the same objects, so that a snapshot can take them over."""
    if state is None:
        return Merged(file, {})
    registry = policy_of(state)
    taken = {*(proxy.name for proxy in file.proxies), *(pool.name for pool in file.pools)}
    stored: tuple[StoredProxy | StoredPool, ...] = (*state.proxies, *state.pools)
    shadowed = {name for one in stored if (name := one.name) in taken} if taken else set[str]()
    faulty = {one.name: one.problem for one in stored if one.problem}
    unusable = {name: why for name, why in faulty.items() if name not in taken}
    unusable |= {name_of_shadowed(name): STATED_TWICE for name in shadowed}
    policy = Policy.model_construct(
        proxies=(*file.proxies, *_unless(registry.proxies, shadowed)),
        pools=(*file.pools, *(_pool(pool, shadowed) for pool in _unless(registry.pools, shadowed))),
        rules=(
            *(
                rule if rule.name or label.startswith("#") else _labelled(rule, label)
                for label, rule in file_rules(file, state)
            ),
            *(
                _rule(rule, shadowed, compile_filter) if rule.filter or shadowed else rule
                for rule in registry.rules
            ),
        ),
        default=file.default or registry.default,
    )
    return Merged(policy, unusable)


def file_rules(file: Policy | None, state: RegistryState | None) -> Iterator[tuple[str, Rule]]:
    """The rules of the policy file with their labels. A label is the rule's name, or its number
    from 1, with ``file`` before it where the registry has rules, which are numbered from 1 too."""
    mixed = bool(state and (state.rules or state.assignments))
    for number, rule in enumerate(file.rules if file else (), 1):
        yield rule.name or (f"file #{number}" if mixed else f"#{number}"), rule


def _labelled(rule: Rule, label: str) -> Rule:
    return rule.model_copy(update={"name": label})


def _unless[N: (Proxy, Pool)](stored: tuple[N, ...], shadowed: set[str]) -> tuple[N, ...]:
    """Those whose names are not ``shadowed``."""
    return tuple(one for one in stored if one.name not in shadowed) if shadowed else stored


def _pool(pool: Pool, shadowed: set[str]) -> Pool:
    if shadowed.isdisjoint(pool.names):
        return pool
    members = tuple(
        one.model_copy(update={"name": name_of_shadowed(one.name)}) if one.name in shadowed else one
        for one in pool.members
    )
    return pool.model_copy(update={"members": members})


def _rule(rule: Rule, shadowed: set[str], compile_filter: FilterCompiler) -> Rule:
    if rule.filter and not _compiles(rule.filter, compile_filter):
        # Edited by hand: what it matches is unknown, so all that it might match is refused.
        update = {"filter": "", "use": REFUSE, "family": None, "target_family": None}
        return rule.model_copy(update=update)
    if isinstance(rule.use, str) and rule.use in shadowed:
        return rule.model_copy(update={"use": name_of_shadowed(rule.use)})
    return rule


def _compiles(expression: str, compile_filter: FilterCompiler) -> bool:
    try:
        compile_filter(expression)
    except (ValueError, RecursionError, InvalidEntry):
        return False
    return True
