"""A policy made ready for deciding: names resolved, filters compiled, rules indexed. Frozen.

A snapshot is never changed, only replaced whole. What a rule names and cannot be had becomes that
rule's refusal: it never falls through to the next one.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ..errors import InvalidEntry, Reason
from ..model.decision import Egress, Refusal
from ..model.proxy import Proxy, TargetFamily
from ..model.rule import (
    DIRECT,
    REFUSE,
    Default,
    Filter,
    FilterCompiler,
    Policy,
    Pool,
    Rule,
    unavailable,
)
from .matching import RuleIndex
from .selection import NO_MEMBERS, Members


@dataclass(frozen=True, slots=True)
class ResolvedUse:
    """What the ``use`` of a rule comes to: members to pick from, or a refusal instead."""

    members: Members = NO_MEMBERS
    strategy: str = "first"
    pool: str = ""
    refusal: Refusal | None = None


Use = tuple[str, TargetFamily | None]
"""The name of a proxy or pool, and the family that a rule pins the hop behind it to."""


@dataclass(frozen=True, slots=True)
class BoundRule:
    """A rule with what it refers to.

    ``label`` is its name, or ``#`` and its number from 1.
    """

    label: str
    rule: Rule
    filter: Filter | None
    resolution: ResolvedUse

    @property
    def title(self) -> str:
        """The label, and what the conditions are about."""
        rule = self.rule
        stated = [name for name in ("hosts", "clients", "ports", "filter") if getattr(rule, name)]
        return f"rule {self.label} ({', '.join(stated) or 'no condition'})"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The policy in force.

    ``egress_keys`` are the keys of every egress that can be chosen. ``problems`` has a sentence
    for every rule that refuses because of what it names, ``warnings`` one for everything that
    was read but is not available.
    """

    proxies: Mapping[str, Proxy]
    pools: Mapping[str, Pool]
    rules: tuple[BoundRule, ...]
    default: Default
    index: RuleIndex
    egress_keys: frozenset[str]
    needs_request: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    socks5_enabled: bool
    unusable: Mapping[str, str]
    resolved: Mapping[Use, ResolvedUse] = field(repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """How many ``proxies``, ``pools`` and ``rules``."""
        return {
            "proxies": len(self.proxies),
            "pools": len(self.pools),
            "rules": len(self.rules),
        }


def build_snapshot(
    policy: Policy,
    compile_filter: FilterCompiler,
    *,
    socks5_enabled: bool = True,
    default: Default = "direct",
    unusable: Mapping[str, str] = MappingProxyType({}),
    previous: Snapshot | None = None,
) -> Snapshot:
    """Make a policy ready. ``default`` holds where the policy states none.

    ``unusable`` are names that stand for nothing the policy lists, and why; rules that use them
    refuse. What is the same object as in the snapshot ``previous`` is taken from there.

    Raises ``InvalidEntry`` (field "rules[2].filter") for a filter that does not compile; all else
    that cannot be had refuses at run time.
    """
    binder = _Binder(policy, socks5_enabled, unusable, previous)
    rules = tuple(_bind(policy.rules, binder, compile_filter, previous))
    chosen = policy.default or default
    # Thousands of rules may share a pool of thousands: each is looked into once.
    resolutions = {id(rule.resolution): rule.resolution for rule in rules}.values()
    keys = {egress.key for resolution in resolutions for egress in resolution.members}
    if chosen == DIRECT:
        keys.add(Egress(None).key)
    return Snapshot(
        MappingProxyType(binder.proxies),
        MappingProxyType(binder.pools),
        rules,
        chosen,
        _index(policy.rules, previous),
        frozenset(keys),
        any(rule.filter is not None and rule.filter.needs_request for rule in rules),
        tuple(_problems(rules)),
        tuple(
            f"pool {pool.name}: {why}; rules that use it refuse"
            for pool in policy.pools
            if (why := unavailable(pool.strategy))
        ),
        socks5_enabled,
        MappingProxyType(dict(unusable)),
        MappingProxyType(binder.resolved),
    )


class _Binder:
    def __init__(
        self,
        policy: Policy,
        socks5_enabled: bool,
        unusable: Mapping[str, str],
        previous: Snapshot | None,
    ) -> None:
        self.proxies = {proxy.name: proxy for proxy in policy.proxies}
        self.pools = {pool.name: pool for pool in policy.pools}
        self._socks5_enabled = socks5_enabled
        self._unusable = unusable
        same_kind = previous is not None and previous.socks5_enabled == socks5_enabled
        self._previous = previous if same_kind else None
        self._changed = self._look_for_changed()
        self.resolved = self._take_over()

    def keeps(self, use: Proxy | str) -> bool:
        """Whether it is what it was in the snapshot before."""
        return self._previous is not None and not (isinstance(use, str) and use in self._changed)

    def _look_for_changed(self) -> set[str]:
        """The names that do not stand for what they did in the snapshot before."""
        before = self._previous
        if before is None:
            return set()
        changed = _differing(self.proxies, before.proxies)
        changed |= _differing(self.pools, before.pools)
        changed |= _differing(self._unusable, before.unusable)
        pools = self.pools.values()
        return changed | {pool.name for pool in pools if not changed.isdisjoint(pool.members)}

    def _take_over(self) -> dict[Use, ResolvedUse]:
        """What a proxy or pool that is what it was comes to, used or not: a pool that is made anew
        asks for each of its members."""
        before = self._previous.resolved.items() if self._previous else ()
        changed, proxies, pools = self._changed, self.proxies, self.pools
        return {
            use: known
            for use, known in before
            if use[0] not in changed and (use[0] in proxies or use[0] in pools)
        }

    def resolve(self, rule: Rule) -> ResolvedUse:
        use, target_family = rule.use, rule.target_family
        if isinstance(use, Proxy):
            return self._of_proxy(use, target_family)
        if use == DIRECT:
            return ResolvedUse(Members((Egress(None, rule.family or "auto"),)))
        if use == REFUSE:
            return _refuse(Reason.RULE, "The policy refuses this target")
        return self._resolve(use, target_family)

    def _resolve(self, name: str, target_family: TargetFamily | None) -> ResolvedUse:
        use = name, target_family
        known = self.resolved.get(use)
        if known is None:
            known = self.resolved[use] = self._of_name(name, target_family)
        return known

    def _of_name(self, name: str, target_family: TargetFamily | None) -> ResolvedUse:
        if proxy := self.proxies.get(name):
            return self._of_proxy(proxy, target_family)
        if pool := self.pools.get(name):
            return self._of_pool(pool, target_family)
        if why := self._unusable.get(name):
            return _refuse(Reason.DISABLED, f"{name} cannot be used: {why}", name)
        return _refuse(Reason.DELETED, f"There is no proxy or pool {name}", name)

    def _of_proxy(self, proxy: Proxy, target_family: TargetFamily | None) -> ResolvedUse:
        if unusable := self._why_not(proxy):
            reason, why = unusable
            return _refuse(reason, f"Proxy {proxy.name} is {why}", proxy.name, proxy)
        return ResolvedUse(Members((_egress(proxy, target_family),)))

    def _of_pool(self, pool: Pool, target_family: TargetFamily | None) -> ResolvedUse:
        if why := unavailable(pool.strategy):
            return _refuse(Reason.DISABLED, f"Pool {pool.name}: {why}", pool=pool)
        usable: list[Egress] = []
        skipped: list[str] = []
        for name in pool.members:
            proxy = self.proxies.get(name)
            unusable = self._why_not(proxy) if proxy else self._missing(name)
            if proxy and not unusable:
                usable.extend(self._resolve(name, target_family).members)
            elif unusable:
                skipped.append(f"{name} is {unusable[1]}")
        if not usable:
            why = ", ".join(skipped) or "it is empty"
            detail = f"Pool {pool.name} has no usable member ({why})"
            return _refuse(Reason.POOL_EMPTY, detail, pool=pool)
        return ResolvedUse(Members(usable), pool.strategy, pool.name)

    def _missing(self, name: str) -> tuple[Reason, str]:
        if why := self._unusable.get(name):
            return Reason.DISABLED, f"not usable: {why}"
        return Reason.DELETED, "deleted"

    def _why_not(self, proxy: Proxy) -> tuple[Reason, str] | None:
        if proxy.status == "inactive":
            return Reason.DISABLED, "inactive"
        if proxy.type == "socks5" and not self._socks5_enabled:
            return Reason.SOCKS5_DISABLED, "socks5, which is switched off"
        return None


def _egress(proxy: Proxy, target_family: TargetFamily | None) -> Egress:
    return Egress(proxy, proxy.family, target_family or proxy.target_family)


def _refuse(
    reason: Reason,
    why: str,
    name: str = "",
    proxy: Proxy | None = None,
    pool: Pool | None = None,
) -> ResolvedUse:
    family, host = (proxy.family, proxy.host) if proxy else ("auto", "")
    refusal = Refusal(reason, f"{why}; refusing to egress (fail-closed)", name, family, host)
    return ResolvedUse(pool=pool.name if pool else "", refusal=refusal)


def _bind(
    rules: Iterable[Rule],
    binder: _Binder,
    compile_filter: FilterCompiler,
    previous: Snapshot | None,
) -> Iterator[BoundRule]:
    known = {id(bound.rule): bound for bound in previous.rules} if previous else {}
    for index, rule in enumerate(rules):
        label, bound = rule.name or f"#{index + 1}", known.get(id(rule))
        if bound is None or bound.label != label:
            filter_ = _compile(rule, index, compile_filter)
            yield BoundRule(label, rule, filter_, binder.resolve(rule))
        elif binder.keeps(rule.use):
            yield bound
        else:
            yield replace(bound, resolution=binder.resolve(rule))


def _index(rules: tuple[Rule, ...], previous: Snapshot | None) -> RuleIndex:
    before = [bound.rule for bound in previous.rules] if previous else []
    if previous and len(before) == len(rules) and all(map(operator.is_, before, rules)):
        return previous.index
    return RuleIndex(rules)


def _differing(now: Mapping[str, object], before: Mapping[str, object]) -> set[str]:
    """The keys that do not have the same object in both."""
    changed = {name for name, one in now.items() if before.get(name) is not one}
    return changed | (before.keys() - now.keys())


def _compile(rule: Rule, index: int, compile_filter: FilterCompiler) -> Filter | None:
    if not rule.filter:
        return None
    try:
        return compile_filter(rule.filter)
    except ValueError as error:
        raise InvalidEntry(f"not a filter expression: {error}", f"rules[{index}].filter") from error


def _problems(rules: Iterable[BoundRule]) -> Iterable[str]:
    for rule in rules:
        refusal = rule.resolution.refusal
        if refusal and refusal.reason is not Reason.RULE:
            yield f"rule {rule.label}: {refusal.detail}"
