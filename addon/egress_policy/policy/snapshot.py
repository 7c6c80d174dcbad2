"""A policy made ready for deciding: names resolved, filters compiled, rules indexed. Frozen.

A snapshot is never changed, only replaced whole. A rule whose egress cannot be had refuses: it
never falls through to the next rule.

An edit changes a few entries among thousands, so a snapshot shares its parts with the one before
it: a part that is made of the same objects is the same object. This needs policies in which an
entry that did not change stays the same object. Where it is copied, the snapshot is right, but it
takes longer to make.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

from ..errors import InvalidEntry, Reason
from ..model.decision import NO_MEMBERS, Decision, Egress, Members, Refusal
from ..model.family import ProxyFamily
from ..model.pool import Pool
from ..model.proxy import Proxy, TargetFamily
from ..model.rule import (
    DIRECT,
    REFUSE,
    Default,
    Filter,
    FilterCompiler,
    Policy,
    Rule,
)
from ..sentence import Sentence
from .fail_closed import fail_closed
from .matching import RuleIndex


@dataclass(frozen=True, slots=True)
class ResolvedUse:
    """What a rule uses: members to pick from, or a refusal instead."""

    members: Members = NO_MEMBERS
    picked_from: Pool | None = None
    refusal: Refusal | None = None


Use = tuple[str, TargetFamily | None]
"""The name of a proxy or pool, and the family that a rule pins the hop behind it to."""


@dataclass(frozen=True)
class BoundRule:
    """A rule with what it uses.

    ``label`` is its name, or ``#`` and its number from 1.
    """

    label: str
    rule: Rule
    filter: Filter | None
    resolution: ResolvedUse

    @property
    def title(self) -> Sentence:
        """The label, and what the conditions are about."""
        rule, label = self.rule, self.label
        given = [name for name in ("hosts", "clients", "ports", "filter") if getattr(rule, name)]
        if not given:
            return Sentence("rule_unconditional", "rule {label} (no condition)", label=label)
        return Sentence("rule_about", "rule {label} ({conditions})", label=label, conditions=given)

    @property
    def matches(self) -> Sentence:
        """Why it decides."""
        return Sentence("rule_matches", "{rule} matches", rule=self.title)

    @cached_property
    def decision(self) -> Decision:
        """The decision for a target that matches, where nothing refuses it. Made when the rule
        first decides, then kept."""
        found = self.resolution
        return Decision("egress", self.label, self.matches, found.members, found.picked_from)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The policy in force.

    ``egress_keys`` has the key of every egress that can be chosen. ``problems`` has a sentence for
    every rule that refuses because of what it names.
    """

    proxies: Mapping[str, Proxy]
    pools: Mapping[str, Pool]
    rules: tuple[BoundRule, ...]
    default: Default
    index: RuleIndex
    egress_keys: frozenset[str]
    needs_request: bool
    problems: tuple[str, ...]
    socks5_enabled: bool
    unusable: Mapping[str, str]
    resolved: Mapping[Use, ResolvedUse] = field(repr=False)

    def why_unusable(self, name: str) -> str:
        """Why nothing leaves by the proxy of this name, as a clause about it; empty if it can be
        used."""
        proxy = self.proxies.get(name)
        why = _why_not(proxy, self.socks5_enabled) if proxy else _missing(name, self.unusable)
        return Sentence("it_is", "it is {why}", why=why[1]) if why else ""

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
    """Make a policy ready. ``default`` holds if the policy has none.

    ``unusable`` has names that no entry of the policy has, and why; rules that use them refuse.
    The snapshot shares with ``previous`` what is made of the same objects.

    Raises ``InvalidEntry`` (field "rules[2].filter") for a filter that does not compile. All else
    that cannot be had refuses at run time.
    """
    if previous and previous.socks5_enabled != socks5_enabled:
        previous = None
    binder = _Binder(policy, socks5_enabled, unusable, previous)
    rules = tuple(_bind(policy.rules, binder, compile_filter, previous))
    chosen = policy.default or default
    # Not rule by rule: thousands of rules may share a pool of thousands.
    used = {id(rule.resolution): rule.resolution for rule in rules}.values()
    keys = {egress.key for found in used for egress in found.members}
    if chosen == DIRECT:
        keys.add(Egress(None).key)
    return Snapshot(
        MappingProxyType(binder.proxies),
        MappingProxyType(binder.pools),
        rules,
        chosen,
        _index(policy.rules, previous),
        frozenset(keys),
        any(map(_needs_request, rules)),
        tuple(_problems(rules)),
        socks5_enabled,
        MappingProxyType(dict(unusable)),
        MappingProxyType(binder.resolved),
    )


class _Binder:
    """Resolves what rules use, each name once. Where the snapshot ``previous`` was made of the same
    objects it takes over the results."""

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
        self.resolved = self._shared(previous) if previous else {}

    def _shared(self, before: Snapshot) -> dict[Use, ResolvedUse]:
        """The results that still hold. A pool that changed asks for those of its members."""
        changed = {
            *_differing(self.proxies, before.proxies),
            *_differing(self.pools, before.pools),
            *_differing(self._unusable, before.unusable),
        }
        pools = self.pools.values()
        changed |= {pool.name for pool in pools if not changed.isdisjoint(pool.names)}
        return {
            use: found
            for use, found in before.resolved.items()
            if found.members and use[0] not in changed
        }

    def resolve(self, rule: Rule, known: ResolvedUse | None) -> ResolvedUse:
        """What a rule uses. ``known`` is what the same rule object used before."""
        use, target_family = rule.use, rule.target_family
        if not isinstance(use, str):
            return known or self._of_proxy(use, target_family)
        if use == DIRECT:
            return _DIRECT[rule.family or "auto"]
        if use == REFUSE:
            return _REFUSED
        return self.resolved.get((use, target_family)) or self._resolve(use, target_family)

    def _resolve(self, name: str, target_family: TargetFamily | None) -> ResolvedUse:
        use = name, target_family
        found = self.resolved.get(use)
        if found is None:
            found = self.resolved[use] = self._of_name(name, target_family)
        return found

    def _of_name(self, name: str, target_family: TargetFamily | None) -> ResolvedUse:
        if proxy := self.proxies.get(name):
            return self._of_proxy(proxy, target_family)
        if pool := self.pools.get(name):
            return self._of_pool(pool, target_family)
        if why := self._unusable.get(name):
            detail = Sentence("cannot_be_used", "{name} cannot be used: {why}", name=name, why=why)
            return _refuse(Reason.DISABLED, detail, name)
        detail = Sentence("nothing_called", "There is no proxy or pool {name}", name=name)
        return _refuse(Reason.DELETED, detail, name)

    def _of_proxy(self, proxy: Proxy, target_family: TargetFamily | None) -> ResolvedUse:
        if unusable := _why_not(proxy, self._socks5_enabled):
            reason, why = unusable
            detail = Sentence("proxy_is", "Proxy {name} is {why}", name=proxy.name, why=why)
            return _refuse(reason, detail, proxy.name, proxy)
        return _single(Egress(proxy, proxy.family, target_family or proxy.target_family))

    def _of_pool(self, pool: Pool, target_family: TargetFamily | None) -> ResolvedUse:
        usable: list[Egress] = []
        weights: list[int] = []
        skipped: list[str] = []
        for member in pool.members:
            name = member.name
            proxy = self.proxies.get(name)
            if (
                unusable := _why_not(proxy, self._socks5_enabled)
                if proxy
                else _missing(name, self._unusable)
            ):
                skipped.append(Sentence("member_is", "{name} is {why}", name=name, why=unusable[1]))
            else:
                usable += self._resolve(name, target_family).members
                weights.append(member.weight)
        if not usable:
            why = skipped or Sentence("pool_empty", "it is empty")
            detail = Sentence(
                "no_usable_member",
                "Pool {name} has no usable member ({why})",
                name=pool.name,
                why=why,
            )
            return _refuse(Reason.POOL_EMPTY, detail, pool=pool)
        return ResolvedUse(Members(usable, weights), pool)


def _missing(name: str, unusable: Mapping[str, str]) -> tuple[Reason, str]:
    if why := unusable.get(name):
        return Reason.DISABLED, Sentence("not_usable", "not usable: {why}", why=why)
    return Reason.DELETED, Sentence("deleted", "deleted")


def _why_not(proxy: Proxy, socks5_enabled: bool) -> tuple[Reason, str] | None:
    if proxy.status == "inactive":
        return Reason.DISABLED, Sentence("inactive", "inactive")
    if proxy.type == "socks5" and not socks5_enabled:
        return Reason.SOCKS5_DISABLED, Sentence("socks5_off", "socks5, which is switched off")
    return None


def _single(egress: Egress) -> ResolvedUse:
    return ResolvedUse(Members((egress,)))


def _refuse(
    reason: Reason, why: str, name: str = "", proxy: Proxy | None = None, pool: Pool | None = None
) -> ResolvedUse:
    family, host = (proxy.family, proxy.host) if proxy else ("auto", "")
    refusal = Refusal(reason, fail_closed(why), name, family, host, names_egress=proxy is not None)
    return ResolvedUse(picked_from=pool, refusal=refusal)


_DIRECT: Final[Mapping[ProxyFamily, ResolvedUse]] = {
    "auto": _single(Egress(None)),
    "ipv4": _single(Egress(None, "ipv4")),
    "ipv6": _single(Egress(None, "ipv6")),
}
_REFUSED: Final = _refuse(Reason.RULE, Sentence("policy_refuses", "The policy refuses this target"))


def _bind(
    rules: Iterable[Rule],
    binder: _Binder,
    compile_filter: FilterCompiler,
    previous: Snapshot | None,
) -> Iterator[BoundRule]:
    before = {id(bound.rule): bound for bound in previous.rules} if previous else {}
    for index, rule in enumerate(rules):
        label, known = rule.name or f"#{index + 1}", before.get(id(rule))
        resolution = binder.resolve(rule, known.resolution if known else None)
        if known and known.resolution is resolution and known.label == label:
            yield known
        else:
            yield BoundRule(label, rule, _compile(rule, index, compile_filter), resolution)


def _needs_request(bound: BoundRule) -> bool:
    """Whether a rule, or the pool that it uses, can only tell once the request is there."""
    pool = bound.resolution.picked_from
    by_request = pool and pool.strategy == "sticky" and pool.sticky_by not in ("client", "host")
    return bool(by_request) or (bound.filter is not None and bound.filter.needs_request)


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
        raise InvalidEntry(
            Sentence("not_a_filter", "not a filter expression: {why}", why=str(error)),
            f"rules[{index}].filter",
        ) from error


def _problems(rules: Iterable[BoundRule]) -> Iterable[str]:
    for rule in rules:
        refusal = rule.resolution.refusal
        if refusal and refusal.reason is not Reason.RULE:
            why = refusal.detail
            yield Sentence("rule_problem", "rule {label}: {why}", label=rule.label, why=why)
