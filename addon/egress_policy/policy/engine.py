"""Deciding: which way out a target takes under a snapshot, or why it has none. Pure.

The first rule whose conditions all hold decides. A filter has three values: if it cannot be told
before the request, and no earlier rule matched for sure, the decision is *undecided*.
"""

from dataclasses import dataclass, replace
from typing import Literal

from ..errors import Reason
from ..model.decision import Egress, Refusal, Target
from ..model.rule import DIRECT
from .matching import failed_condition
from .snapshot import BoundRule, Snapshot

DEFAULT_RULE = "default"
_DIRECT_MEMBERS = (Egress(None),)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says. ``members`` is what to pick from if ``outcome`` is ``egress``.

    ``rule`` is the label of the rule that decided, ``default`` if none matched (``unmatched``).
    ``why`` is a short text for people.
    """

    outcome: Literal["egress", "refuse", "undecided"]
    rule: str
    why: str
    members: tuple[Egress, ...] = ()
    strategy: str = "first"
    pool: str = ""
    refusal: Refusal | None = None
    unmatched: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of one rule, or of the default, which comes last."""

    rule: str
    verdict: Literal["matched", "not matched", "needs the request", "not reached"]
    why: str = ""


def decide(snapshot: Snapshot, target: Target) -> Decision:
    """The decision for a target. Raises what a filter raises: the caller then refuses."""
    for number in snapshot.index.candidates(target):
        bound = snapshot.rules[number]
        verdict = bound.filter(target) if bound.filter else True
        if verdict is None:
            return Decision("undecided", bound.label, f"{bound.title} needs the request")
        if verdict:
            return _apply(bound, target)
    return _default(snapshot, target)


def explain(snapshot: Snapshot, target: Target) -> tuple[Trace, ...]:
    """Each rule and the default: why it did or did not decide. Looks at every rule."""
    traces: list[Trace] = []
    decided = False
    for bound in snapshot.rules:
        trace = Trace(bound.label, "not reached") if decided else _trace(bound, target)
        decided = trace.verdict not in ("not matched", "not reached") or decided
        traces.append(trace)
    if decided:
        return (*traces, Trace(DEFAULT_RULE, "not reached"))
    return (*traces, Trace(DEFAULT_RULE, "matched", _default(snapshot, target).why))


def udp_refusal(proxy: str, rule: str, host: str = "") -> Refusal:
    """What UDP gets for which a proxy was chosen: none of the proxy types carries it here."""
    detail = f"UDP cannot leave by proxy {proxy}; refusing to egress (fail-closed)"
    return Refusal(Reason.UDP_OVER_PROXY, detail, proxy, host=host, rule=rule)


def _apply(bound: BoundRule, target: Target) -> Decision:
    found, why = bound.resolution, f"{bound.title} matches"
    refusal = found.refusal
    if refusal:
        refusal = replace(refusal, rule=bound.label, host=refusal.host or target.host)
    elif target.transport == "udp" and found.members[0].proxy:
        refusal = udp_refusal(found.pool or found.members[0].name, bound.label, target.host)
    if refusal:
        return Decision("refuse", bound.label, why, pool=found.pool, refusal=refusal)
    return Decision("egress", bound.label, why, found.members, found.strategy, found.pool)


def _default(snapshot: Snapshot, target: Target) -> Decision:
    why = f"no rule matches, the default is {snapshot.default}"
    if snapshot.default == DIRECT:
        return Decision("egress", DEFAULT_RULE, why, _DIRECT_MEMBERS, unmatched=True)
    detail = "No rule matches and the default of the policy is to refuse"
    refusal = Refusal(Reason.DEFAULT, detail, host=target.host, rule=DEFAULT_RULE)
    return Decision("refuse", DEFAULT_RULE, why, refusal=refusal, unmatched=True)


def _trace(bound: BoundRule, target: Target) -> Trace:
    if failed := failed_condition(bound.rule, target):
        return Trace(bound.label, "not matched", failed)
    verdict = bound.filter(target) if bound.filter else True
    if verdict is None:
        return Trace(bound.label, "needs the request", f"filter {bound.rule.filter}")
    if not verdict:
        return Trace(bound.label, "not matched", f"filter {bound.rule.filter} does not hold")
    return Trace(bound.label, "matched", f"{bound.title} matches")
