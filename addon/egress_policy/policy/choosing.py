"""Chooses the egress for a target: what the policy decides, and which member of a pool. Pure.

Owns the ``Snapshot`` in force and how each proxy fares. ``router.py`` works out what is dialled
for a choice.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from ..errors import Reason
from ..model.decision import (
    Attempt,
    Choice,
    Decision,
    Egress,
    Members,
    Purpose,
    Refusal,
    Route,
    Target,
)
from ..model.host import is_target_host
from ..model.proxy import Proxy
from ..model.rule import DIRECT
from ..sentence import Sentence
from . import engine
from .fail_closed import fail_closed, refusing
from .health import CircuitEvent, Health
from .hop import FAILOVER_BUDGET, LEAST_TIME
from .listeners import LOOP, Listeners
from .selection import PoolPicker, StickyKey, by_client
from .snapshot import Snapshot
from .standing import Standing

_NOT_ITS_FAULT: Final = frozenset({"own", "undecided"})
"""Faults after which a member may be as good as before."""
_NO_NEW_CONNECTION: Final = frozenset({Reason.CIRCUIT_OPEN, Reason.LIMIT_REACHED})


class Chooser:
    """``snapshot`` may be replaced whole at any time. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        snapshot: Snapshot,
        listeners: Listeners,
        clock: Callable[[], float],
        chance: random.Random,
    ) -> None:
        self._snapshot = snapshot
        self.generation = object()
        """Stands for the policy in force. No two choosers share one."""
        self.listeners = listeners
        self.clock = clock
        self.sticky_key: StickyKey = by_client
        """Finds the key of a target for a sticky pool."""
        self.standing = Standing(Health(clock, chance, lambda event: self.on_circuit(event)))
        self.picker = PoolPicker(
            self.standing, lambda by, target: self.sticky_key(by, target), chance, clock
        )
        self.on_failover: Callable[[str], None] = lambda _: None
        """Called with the name of the pool whenever another member is tried."""
        self.on_circuit: Callable[[CircuitEvent], None] = lambda _: None
        """Called when a circuit changes."""

    @property
    def snapshot(self) -> Snapshot:
        """The policy in force."""
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.generation = object()
        self.standing.health.keep(self._is_known)
        self.picker.keep(snapshot.pools.keys())

    def _is_known(self, egress: Egress) -> bool:
        """Whether the policy has an egress, perhaps for another target, as it was edited."""
        if egress.key in self._snapshot.egress_keys:
            return True
        now = self._snapshot.proxies.get(egress.name)
        return now is not None and (
            now is egress.proxy or Egress(now, now.family).hop_key == egress.hop_key
        )

    def choose(
        self,
        target: Target,
        taken: str | None = None,
        unmatched: Proxy | None = None,
        held: Callable[[], Iterable[str]] = tuple,
    ) -> Choice:
        """Decide for a target, and pick a member if the decision is for a pool.

        ``taken`` is the key of the egress by which an open connection already leaves: it is kept
        if the decision allows it. ``unmatched`` is the proxy that stands for ``direct`` where no
        rule matches (the upstream of mitmproxy's own mode). ``held`` gives the keys of egresses
        with an open connection to the target, which are good for it although no new connection
        may be made: their circuit is open, or they are full.

        The caller has to say what becomes of the choice: ``Choice.dialled`` or ``dropped``.
        """
        if refusal := self.target_refusal(target.host, target.port):
            return Choice(refusal=refusal, generation=self.generation)
        decision = engine.decide(self.snapshot, target)
        picked: Egress | Refusal | None = decision.refusal
        if decision.outcome == "egress":
            picked = self._pick(decision, target, taken, unmatched)
        if isinstance(picked, Refusal) and picked.reason in _NO_NEW_CONNECTION:
            tried = (self._pick(decision, target, key, unmatched) for key in held())
            picked = next((one for one in tried if isinstance(one, Egress)), picked)
        choice = self._choice(decision, picked, target, unmatched)
        if choice.egress and choice.egress.proxy and choice.egress.key != taken:
            return self._taken(choice, choice.egress)
        return choice

    def choose_after(self, failed: Choice, refusal: Refusal, target: Target) -> Choice:
        """The choice for a target after the egress of a choice ``failed``: another member of the
        same pool, or the ``refusal``, which then names all that were tried.

        Only while the policy is the same, within ``failover`` and the budget, and where the
        failure lets another member be tried. No tunnel stands, and nothing of the request was sent.
        """
        egress = failed.egress
        if egress is None or not failed.pool:
            return replace(failed, egress=None, refusal=refusal)
        now = self.clock()
        spent = round((now - failed.began) * 1000, 1)
        attempt = Attempt(egress.name, egress.key, refusal.reason, refusal.fault, spent)
        tried = (*failed.tried, attempt)
        left = (failed.deadline or now) - now
        if refusal.fails_over and not failed.is_last and left > LEAST_TIME:
            choice = self._another(failed, target, tried)
            if choice and choice.egress:
                self.on_failover(failed.pool)
                return self._taken(choice, choice.egress)
        return replace(failed, egress=None, refusal=replace(refusal, tried=tried))

    def _taken(self, choice: Choice, egress: Egress) -> Choice:
        trial = self.standing.health.taken(egress)
        return replace(choice, trial=trial) if trial else choice

    def _another(self, failed: Choice, target: Target, tried: tuple[Attempt, ...]) -> Choice | None:
        decision = engine.decide(self.snapshot, target)
        pool = decision.picked_from
        unchanged = failed.generation is self.generation and decision.outcome == "egress"
        if pool is None or pool.name != failed.pool or not unchanged:
            return None
        keys = {attempt.key for attempt in tried}
        in_doubt = {one.key for one in tried if one.fault in _NOT_ITS_FAULT}
        picked = self.picker.pick(pool, decision.members, target, None, keys, in_doubt)
        return self._choice(decision, picked, target, None, failed, tried)

    def _pick(
        self, decision: Decision, target: Target, taken: str | None, upstream: Proxy | None
    ) -> Egress | Refusal | None:
        """The member to take, why there is none, or ``None`` where the pick needs the request."""
        if decision.unmatched and upstream is not None:
            if target.transport == "udp":
                return engine.udp_refusal(upstream.name, decision.rule)
            return Egress(upstream, upstream.family)
        kept = decision.members.by_key.get(taken) if taken else None
        if kept and self.standing.exit_refusal(kept):
            taken = None  # an open connection is no reason to go on by a wrong exit
        if decision.picked_from:
            return self.picker.pick(decision.picked_from, decision.members, target, taken)
        egress = decision.members[0]
        if egress.proxy is None or egress.key == taken or self.standing.is_available(egress):
            return egress
        return self.standing.refusal(egress) or egress

    def _choice(
        self,
        decision: Decision,
        picked: Egress | Refusal | None,
        target: Target,
        upstream: Proxy | None,
        failed: Choice | None = None,
        tried: tuple[Attempt, ...] = (),
    ) -> Choice:
        pool, refusal = decision.picked_from, None
        if isinstance(picked, Refusal):
            refusal, picked = (
                replace(picked, rule=decision.rule, host=picked.host or target.host),
                None,
            )
        began, deadline, is_last = 0.0, None, True
        if pool and picked:
            began = self.clock()
            is_last = len(tried) >= min(pool.failover, len(decision.members) - 1)
            if pool.failover:
                deadline = failed.deadline if failed else began + FAILOVER_BUDGET
        return Choice(  # with neither, an undecided one, it is open
            picked,
            refusal,
            decision.rule,
            decision.pool,
            decision.unmatched,
            self.generation,
            Purpose(target),
            upstream,
            pool.strategy if pool else "",
            tried,
            began,
            deadline,
            is_last,
        )

    def target_refusal(self, host: str, port: int) -> Refusal | None:
        """Why nothing leaves for a target, whatever the policy says about it."""
        if not is_target_host(host):
            neither = "{host} is neither an IP address nor a host name"
            detail = refusing(Sentence("target_no_host", neither, host=ascii(host)))
            return Refusal(Reason.DNS_FAILURE, detail, host=host)
        if not 0 < port < 65536:
            # asyncio raises what mitmproxy does not catch: its client would wait for ever
            outside = "Port {port} is not between 1 and 65535"
            detail = refusing(Sentence("target_no_port", outside, port=str(port)))
            return Refusal(Reason.CONNECT_REFUSED, detail, host=host)
        if self.listeners.reached_by(host, port):
            return Refusal(Reason.LOOP, LOOP, host=host)
        return None

    def is_current(self, route: Route) -> bool:
        """Whether the policy in force still gives the route its egress, unedited.

        Raises what a filter raises.
        """
        choice, key = route.choice, route.egress.key
        if target := choice.purpose.target:
            return choice.generation is self.generation or self.allows(target, key, choice.upstream)
        if choice.unmatched and choice.upstream:
            return self.snapshot.default == DIRECT
        return key in self.snapshot.egress_keys

    def allows(self, target: Target, key: str, unmatched: Proxy | None = None) -> bool:
        """Whether a target that leaves by the egress with this key may go on to do so.

        Raises what a filter raises.
        """
        decision = engine.decide(self.snapshot, target)
        return key in _members(decision, unmatched).by_key


def _members(decision: Decision, upstream: Proxy | None) -> Members:
    """The egresses to pick from; ``upstream`` stands for ``direct`` where no rule matches."""
    if decision.outcome == "egress" and decision.unmatched and upstream is not None:
        return Members((Egress(upstream, upstream.family),))
    return decision.members


def undecided(choice: Choice) -> Refusal:
    """The refusal for a choice that is still open where nothing more will be known."""
    if not choice.rule:
        why = Sentence("no_egress", "No egress was chosen")
        return Refusal(Reason.ERROR, fail_closed(why))
    absent = (
        "Rule {label} looks at what is not there: the request of a connection without one, "
        "or a body that is streamed (stream_large_bodies)"
    )
    detail = fail_closed(Sentence("rule_undecided", absent, label=choice.rule))
    return Refusal(Reason.RULE, detail, rule=choice.rule)
