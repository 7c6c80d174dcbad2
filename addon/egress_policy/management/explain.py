"""What the policy in force says about a request that nobody sends.

Asks neither DNS nor the network: the egress shown may still be refused when it is dialled.
"""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from ..errors import InvalidEntry
from ..model.decision import Decision, Egress, Refusal, Target
from ..model.family import ProxyFamily
from ..model.host import canonical_ip
from ..model.proxy import TargetFamily
from ..model.target_url import parse_target_url
from ..policy import engine, preflight
from ..policy.snapshot import Snapshot
from ..sentence import Sentence
from .states import STATES, State, States, StateView
from .views import Spoken, View


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


class RuleTrace(Spoken):
    """Why a rule, or the default, did or did not decide."""

    rule: str
    verdict: Literal["matched", "not matched", "needs the request", "not reached"]
    why: str = ""


class EgressView(View):
    """What would be dialled: ``host`` and ``port`` over ``family``.

    ``now`` is how it fares, ``None`` where no mitmproxy runs.
    """

    name: str
    type: Literal["http", "https", "socks5", "direct"]
    host: str
    port: int
    family: ProxyFamily
    target_family: TargetFamily | None = None
    now: StateView | None = None


class LeftOut(Spoken):
    """A member of a pool that cannot be used, and why."""

    proxy: str
    why: str


class Explanation(Spoken):
    """What the policy says about a request.

    With a ``pool`` one of the egresses is picked by its ``strategy`` when a flow comes; here
    nothing is picked. Its first 50 members are listed: as ``egresses``, or ``left_out`` because
    they cannot be used. ``states`` counts all members by how they fare. ``note`` is a sentence
    about that.

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
    strategy: str = ""
    states: dict[str, int] = Field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    note: str = ""
    rules: tuple[RuleTrace, ...] = ()
    rules_before: int = 0
    rules_after: int = 0


FlowFor = Callable[[ExplainQuery], object]
"""Makes the flow on which filters are evaluated, see ``Target.flow``."""
WAYS: Final = 50
"""How many members of a pool an explanation lists at the most."""
LISTED: Final = 100
"""How many rules an explanation lists at the most, unless all are asked for."""
TargetRefusal = Callable[[str, int], Refusal | None]
"""Why nothing leaves for a host and port, ``None`` if the policy decides."""


def _nothing(_host: str, _port: int) -> None:
    """Refuses no target."""


def explain(
    snapshot: Snapshot,
    query: ExplainQuery,
    flow_for: FlowFor,
    refuse: TargetRefusal = _nothing,
    states: States | None = None,
) -> Explanation:
    """The rules around the deciding one, why each did or did not decide, and what would be dialled.

    ``refuse`` says which targets are refused whatever the rules say, ``states`` how the egresses
    fare, if flows leave by this process at all. Raises ``InvalidEntry`` (field
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
        **({} if refusal else _ways(snapshot, decision, target, states)),
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
        raise InvalidEntry(
            Sentence("client_address", "Not a client: its IP address is expected"), "client"
        )
    return Target(url.host, url.port, client, flow=flow_for(query))


def _contradiction(members: tuple[Egress, ...], target: Target) -> Refusal | None:
    """Why none of the members can be asked for a target that is a literal."""
    refusals = [_refusal(egress, target.host) for egress in members]
    return refusals[0] if refusals and all(refusals) else None


def _refusal(egress: Egress, host: str) -> Refusal | None:
    pinned = egress.target_family if egress.proxy else egress.family
    plan = preflight.plan(host, pinned or "auto", "Target")
    return plan if isinstance(plan, Refusal) else None


def _ways(
    snapshot: Snapshot, decision: Decision, target: Target, states: States | None
) -> dict[str, Any]:
    """The ways that may be taken, and how they fare."""
    members, pool = decision.members, decision.picked_from
    ways: dict[str, Any] = {
        "egresses": tuple(_view(egress, target, states) for egress in members[:WAYS])
    }
    dead = bool(states and members and not any(map(states.is_available, members)))
    if pool is None:
        none = Sentence("unavailable", "it is not available now: new connections are refused")
        return {**ways, "note": none if dead else ""}
    words = Counter(states.words(pool.names)) if states else Counter[State]()
    unusable = ((name, snapshot.why_unusable(name)) for name in pool.names)
    left_out = (LeftOut(proxy=name, why=why) for name, why in unusable if why)
    picks = "strategy {strategy} picks one of them when a flow comes; nothing is picked here"
    note = Sentence("strategy_picks", picks, strategy=pool.strategy)
    none = Sentence("none_available", "none of them is available now: new connections are refused")
    return {
        **ways,
        "strategy": pool.strategy,
        "states": {word: words[word] for word in STATES if words[word]},
        "left_out": tuple(islice(left_out, WAYS)),
        "note": none if dead else note,
    }


def _view(egress: Egress, target: Target, states: States | None) -> EgressView:
    proxy = egress.proxy
    return EgressView(
        name=egress.name,
        type=proxy.type if proxy else "direct",
        host=proxy.host if proxy else target.host,
        port=proxy.port if proxy else target.port,
        family=egress.family,
        target_family=egress.target_family,
        now=states.of_egress(egress) if states and proxy else None,
    )
