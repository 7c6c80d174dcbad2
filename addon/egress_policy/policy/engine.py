"""Deciding which egress a target takes under a snapshot, or why it has none. Pure.

The first rule whose conditions all hold decides. A filter has three values: where it needs the
request, and no earlier rule matched, the decision is *undecided*.
"""

from dataclasses import dataclass, replace
from typing import Literal

from ..errors import Reason
from ..model.decision import Decision, Egress, Members, Refusal, Target
from ..model.rule import DIRECT, REFUSE
from ..sentence import Sentence
from .fail_closed import fail_closed
from .matching import failed_condition
from .snapshot import BoundRule, ResolvedUse, Snapshot

DEFAULT_RULE = "default"
_DIRECT_MEMBERS = Members((Egress(None),))
_NO_RULE = {
    default: Sentence("no_rule", "no rule matches, the default is {default}", default=default)
    for default in (DIRECT, REFUSE)
}
_DEFAULT_REFUSES = Sentence(
    "default_refuses", "No rule matches and the default of the policy is to refuse"
)


@dataclass(frozen=True, slots=True)
class Trace:
    """How a rule fared, or the default, which comes last."""

    rule: str
    verdict: Literal["matched", "not matched", "needs the request", "not reached"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Traces:
    """Traces in the order of the rules; ``before`` and ``after`` count those left out."""

    listed: tuple[Trace, ...]
    before: int
    after: int


def decide(snapshot: Snapshot, target: Target) -> Decision:
    """The decision for a target. Raises what a filter raises; the caller then refuses."""
    for number in snapshot.index.candidates(target):
        bound = snapshot.rules[number]
        verdict = bound.filter(target) if bound.filter else True
        if verdict is None:
            return Decision(
                "undecided",
                bound.label,
                Sentence("needs_request", "{rule} needs the request", rule=bound.title),
            )
        if verdict:
            return _apply(bound, target)
    return _default(snapshot, target)


def explain(snapshot: Snapshot, target: Target, most: int | None = None) -> Traces:
    """Why each rule and the default did or did not decide. Raises what a filter raises.

    ``most`` limits the traces to so many around the deciding rule; no other rule is evaluated.
    """
    rules = snapshot.rules
    deciding, total = _deciding(snapshot, target), len(rules) + 1
    first, count = 0, total
    if most is not None and most < total:
        first, count = min(max(0, deciding - most // 2), total - most), most
    listed = [
        _trace(rules[number], target)
        if number <= deciding
        else Trace(rules[number].label, "not reached")
        for number in range(first, min(first + count, len(rules)))
    ]
    if first + count == total:
        listed.append(_trace_of_default(snapshot, target, deciding == len(rules)))
    return Traces(tuple(listed), first, total - first - count)


def udp_refusal(proxy: str, rule: str, host: str = "") -> Refusal:
    """The refusal for UDP where a proxy was chosen: no proxy type carries UDP."""
    why = Sentence("udp", "UDP cannot leave by proxy {name}", name=proxy)
    detail = fail_closed(why)
    return Refusal(Reason.UDP_OVER_PROXY, detail, proxy, host=host, rule=rule)


def _apply(bound: BoundRule, target: Target) -> Decision:
    found = bound.resolution
    refusal = found.refusal
    if refusal:
        refusal = replace(refusal, rule=bound.label, host=refusal.host or target.host)
    elif target.transport == "udp" and found.members[0].proxy:
        refusal = udp_refusal(_called(found), bound.label, target.host)
    if refusal:
        why = bound.matches
        return Decision("refuse", bound.label, why, picked_from=found.picked_from, refusal=refusal)
    return bound.decision


def _called(found: ResolvedUse) -> str:
    return found.picked_from.name if found.picked_from else found.members[0].name


def _default(snapshot: Snapshot, target: Target) -> Decision:
    why = _NO_RULE[snapshot.default]
    if snapshot.default == DIRECT:
        return Decision("egress", DEFAULT_RULE, why, _DIRECT_MEMBERS, unmatched=True)
    refusal = Refusal(Reason.DEFAULT, _DEFAULT_REFUSES, host=target.host, rule=DEFAULT_RULE)
    return Decision("refuse", DEFAULT_RULE, why, refusal=refusal, unmatched=True)


def _deciding(snapshot: Snapshot, target: Target) -> int:
    """The number of the rule that decides; that behind the last rule stands for the default."""
    for number in snapshot.index.candidates(target):
        matches = snapshot.rules[number].filter
        if matches is None or matches(target) is not False:
            return number
    return len(snapshot.rules)


def _trace_of_default(snapshot: Snapshot, target: Target, decides: bool) -> Trace:
    if not decides:
        return Trace(DEFAULT_RULE, "not reached")
    return Trace(DEFAULT_RULE, "matched", _default(snapshot, target).why)


def _trace(bound: BoundRule, target: Target) -> Trace:
    if failed := failed_condition(bound.rule, target):
        return Trace(bound.label, "not matched", failed)
    verdict = bound.filter(target) if bound.filter else True
    if verdict is None:
        return Trace(
            bound.label,
            "needs the request",
            Sentence("filter_is", "filter {filter}", filter=bound.rule.filter),
        )
    if not verdict:
        return Trace(
            bound.label,
            "not matched",
            Sentence("filter_fails", "filter {filter} does not hold", filter=bound.rule.filter),
        )
    return Trace(bound.label, "matched", bound.matches)
