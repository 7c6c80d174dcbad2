"""What the policy in force says about a request that nobody sends.

Asks neither DNS nor the network: the egress shown may still be refused when it is dialled.
"""

from collections.abc import Callable
from typing import Final, Literal

from pydantic import ConfigDict, Field

from ..errors import InvalidEntry
from ..model.decision import Egress, Refusal, Target
from ..model.family import ProxyFamily
from ..model.host import canonical_ip
from ..model.proxy import TargetFamily
from ..model.target_url import parse_target_url
from ..policy import engine, preflight
from ..policy.snapshot import Snapshot
from .views import View


class ExplainQuery(View):
    """A request to explain. ``url`` is absolute; nothing is sent.

    ``all_rules`` lists every rule, not only those around the one that decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(min_length=1, max_length=4096)
    method: str = Field(default="GET", pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}$")
    client: str = Field(default="127.0.0.1", max_length=64)
    headers: dict[str, str] = Field(default_factory=dict)
    all_rules: bool = False


class RuleTrace(View):
    """Why a rule, or the default, did or did not decide."""

    rule: str
    verdict: Literal["matched", "not matched", "needs the request", "not reached"]
    why: str = ""


class EgressView(View):
    """What would be dialled: ``host`` and ``port`` over ``family``."""

    name: str
    type: Literal["http", "https", "socks5", "direct"]
    host: str
    port: int
    family: ProxyFamily
    target_family: TargetFamily | None = None


class Explanation(View):
    """What the policy says about a request. More than one egress: one of them is picked.

    ``rules`` are at most 100 around the one that decides, unless all were asked for;
    ``rules_before`` and ``rules_after`` count those that are left out.
    """

    outcome: Literal["egress", "refuse", "undecided"]
    rule: str
    pool: str = ""
    why: str
    code: str = ""
    reason: str = ""
    detail: str = ""
    egresses: tuple[EgressView, ...] = ()
    rules: tuple[RuleTrace, ...] = ()
    rules_before: int = 0
    rules_after: int = 0


FlowFor = Callable[[ExplainQuery], object]
"""Makes the flow on which filters are evaluated, see ``Target.flow``."""
LISTED: Final = 100
"""How many rules an explanation lists at the most, unless all are asked for."""
TargetRefusal = Callable[[str, int], Refusal | None]
"""Why nothing leaves for a host and port, ``None`` if the policy decides."""


def _nothing(_host: str, _port: int) -> None:
    """Refuses no target."""


def explain(
    snapshot: Snapshot, query: ExplainQuery, flow_for: FlowFor, refuse: TargetRefusal = _nothing
) -> Explanation:
    """The rules around the deciding one, why each did or did not decide, and what would be dialled.

    ``refuse`` says which targets are refused whatever the rules say. Raises ``InvalidEntry`` (field
    "url" or "client") for what cannot be asked.
    """
    target = target_of(query, flow_for)
    decision = engine.decide(snapshot, target)
    refusal = refuse(target.host, target.port) or decision.refusal
    refusal = refusal or _contradiction(decision.members, target)
    traces = engine.explain(snapshot, target, None if query.all_rules else LISTED)
    return Explanation(
        outcome="refuse" if refusal else decision.outcome,
        rule=decision.rule,
        pool=decision.pool,
        why=decision.why,
        code=refusal.code.value if refusal else "",
        reason=refusal.reason.value if refusal else "",
        detail=refusal.detail if refusal else "",
        egresses=() if refusal else tuple(_view(egress, target) for egress in decision.members),
        rules=tuple(
            RuleTrace(rule=trace.rule, verdict=trace.verdict, why=trace.why)
            for trace in traces.listed
        ),
        rules_before=traces.before,
        rules_after=traces.after,
    )


def target_of(query: ExplainQuery, flow_for: FlowFor) -> Target:
    """The target of the request. Raises ``InvalidEntry`` (field "url" or "client")."""
    url, client = parse_target_url(query.url), canonical_ip(query.client)
    if client is None:
        raise InvalidEntry("Not a client: its IP address is expected", "client")
    return Target(url.host, url.port, client, flow=flow_for(query))


def _contradiction(members: tuple[Egress, ...], target: Target) -> Refusal | None:
    """Why none of the members can be asked for a target that is a literal."""
    refusals = [_refusal(egress, target.host) for egress in members]
    return refusals[0] if refusals and all(refusals) else None


def _refusal(egress: Egress, host: str) -> Refusal | None:
    pinned = egress.target_family if egress.proxy else egress.family
    plan = preflight.plan(host, pinned or "auto", "Target")
    return plan if isinstance(plan, Refusal) else None


def _view(egress: Egress, target: Target) -> EgressView:
    proxy = egress.proxy
    return EgressView(
        name=egress.name,
        type=proxy.type if proxy else "direct",
        host=proxy.host if proxy else target.host,
        port=proxy.port if proxy else target.port,
        family=egress.family,
        target_family=egress.target_family,
    )
