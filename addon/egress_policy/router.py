"""The use cases of a running proxy, over policy, pre-flight and resolver.

Owns the current ``Snapshot`` and what the process learns (the state of pools, the address that
answered last). Chooses an egress for a target and works out the route to dial; dials nothing.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import Final

from .client.own_machine import is_own_host
from .errors import Reason
from .model.decision import (
    Attempt,
    Choice,
    Decision,
    Egress,
    Members,
    Meter,
    Pin,
    Place,
    Purpose,
    Refusal,
    Route,
    Target,
    Transport,
)
from .model.family import ProxyFamily
from .model.host import Party, canonical_ip, is_target_host
from .model.proxy import Proxy
from .model.rule import DIRECT
from .policy import engine, preflight
from .policy.fail_closed import fail_closed, refusing
from .policy.health import CircuitEvent, Health
from .policy.hop import FAILOVER_BUDGET, LEAST_TIME, LEFT, Outcome
from .policy.listeners import LOOP, Listeners
from .policy.preflight import DnsAnswer, KnowingResolver, Query, SystemQuery
from .policy.selection import PoolPicker, StickyKey, by_client
from .policy.snapshot import Snapshot
from .policy.standing import Standing
from .sentence import Sentence
from .wire import http_connect, socks5

REMEMBERED: Final = 4096
"""For how many proxies and hosts the address that answered last is kept."""

_NOT_ITS_FAULT: Final = frozenset({"own", "undecided"})
"""Faults after which a member may be as good as before."""
_NO_NEW_CONNECTION: Final = frozenset({Reason.CIRCUIT_OPEN, Reason.LIMIT_REACHED})

type _Steps[T] = Generator[Query | SystemQuery, DnsAnswer, T | Refusal]


class EgressRouter:
    """Chooses and prepares. ``snapshot`` may be replaced whole at any time."""

    def __init__(
        self,
        snapshot: Snapshot,
        resolver: KnowingResolver,
        is_own_host: Callable[[str], bool] = is_own_host,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._snapshot = snapshot
        self.generation = object()
        """Stands for the policy in force. No two routers share one."""
        self.resolver = resolver
        self.listeners = Listeners(is_own_host, self._known_addresses)
        self.clock = clock
        self.sticky_key: StickyKey = by_client
        """Finds the key of a target for a sticky pool."""
        chance = chance or random.Random()  # noqa: S311 (no secret)
        self.standing = Standing(Health(clock, chance, self._heard))
        self.picker = PoolPicker(
            self.standing, lambda by, target: self.sticky_key(by, target), chance, clock
        )
        self.on_failover: Callable[[str], None] = lambda _: None
        """Called with the name of the pool whenever another member is tried."""
        self.exit_of: Callable[[Egress], str] = lambda _: ""
        """Says by which address targets see an egress, as far as is known."""
        self.meter_of: Callable[[Egress], Meter | None] = lambda _: None
        """Makes what counts the bytes of a route."""
        self.on_outcome: Callable[[Route, Outcome], None] = lambda *_: None
        """Called with each outcome that says something about the proxy."""
        self.on_circuit: Callable[[CircuitEvent], None] = lambda _: None
        """Called when a circuit changes."""
        self._answered: OrderedDict[Place, str] = OrderedDict()

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

    # -- choosing

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

    # -- routing

    async def route(
        self, choice: Choice, host: str, port: int, transport: Transport
    ) -> Route | Refusal:
        """Work out what to dial for ``host``:``port`` through the chosen egress.

        Asks DNS for the pinned family only, and only where a name has to be resolved here. A
        choice that the policy in force no longer makes is refused.
        """
        return self._in_force(choice, await self.prepare(choice, host, port, transport))

    def route_now(self, choice: Choice, host: str, port: int, transport: Transport) -> Route | None:
        """The route of ``route`` if it is known already: ``None`` where DNS has to be asked, and
        for a refusal."""
        steps = self._steps(choice, host, port, transport)
        try:
            query = next(steps)
            while answer := self.resolver.known(query.host, query.family):
                query = steps.send(answer)
        except StopIteration as done:
            route = self._in_force(choice, done.value)
            return route if isinstance(route, Route) else None
        steps.close()
        return None

    async def prepare(
        self, choice: Choice, host: str, port: int, transport: Transport
    ) -> Route | Refusal:
        """The route of ``route`` for an egress that no rule has to use, as in a test of a proxy."""
        return await self._resolved(self._steps(choice, host, port, transport))

    async def prepare_hop(self, proxy: Proxy) -> Route | Refusal:
        """The route to a proxy that is not asked for any target. Its target is the proxy."""
        choice = Choice(Egress(proxy, proxy.family))
        return await self._resolved(self._hop_steps(choice, proxy))

    async def prepare_direct(self, host: str, port: int) -> Route | Refusal:
        """The route to a target that this process itself asks, without a proxy, for a person who
        said so. No flow takes it."""
        return await self._resolved(self._direct_steps(Choice(Egress(None)), (host, port)))

    async def _resolved(self, steps: _Steps[Route]) -> Route | Refusal:
        try:
            query = next(steps)
            while True:
                query = steps.send(await self.resolver.resolve(query.host, query.family))
        except StopIteration as done:
            outcome: Route | Refusal = done.value
            return outcome

    def _in_force(self, choice: Choice, route: Route | Refusal) -> Route | Refusal:
        if isinstance(route, Refusal):
            return route
        # The policy may have changed while DNS was asked, for this target or for the egress.
        unchanged = choice.generation in (None, self.generation) and self.is_current(route)
        return route if unchanged else route.superseded_refusal()

    def _steps(self, choice: Choice, host: str, port: int, transport: Transport) -> _Steps[Route]:
        """The way to a route: yields the questions for DNS, and is sent the answers."""
        egress = choice.egress
        if egress is None:
            return choice.refusal or undecided(choice)
        proxy, target = egress.proxy, (host, port)
        if refusal := self.target_refusal(host, port) or _unaskable(egress, host, port):
            return replace(refusal, proxy=egress.name, family=egress.family, rule=choice.rule)
        hop = (proxy.host, proxy.port) if proxy else target
        pin = yield from self._pin_hop(egress, hop)
        if proxy and egress.target_family and not isinstance(pin, Refusal):
            second = yield from _pin(host, egress.target_family, "Target")
            if isinstance(second, Refusal):
                return replace(second, proxy=egress.name, rule=choice.rule)
            target = (second.addresses[0], port)
        if isinstance(pin, Refusal):
            return replace(pin, proxy=egress.name, rule=choice.rule)
        addresses, meter = self._good_first(pin, hop), self.meter_of(egress)
        return self._unlooped(Route(choice, addresses, target, transport, self.listeners, meter))

    def _hop_steps(self, choice: Choice, proxy: Proxy) -> _Steps[Route]:
        hop = proxy.host, proxy.port
        pin = yield from self._pin_hop(Egress(proxy, proxy.family), hop)
        if isinstance(pin, Refusal):
            return replace(pin, proxy=proxy.name)
        return self._unlooped(Route(choice, self._good_first(pin, hop), hop, loops=self.listeners))

    def _direct_steps(self, choice: Choice, target: Place) -> _Steps[Route]:
        if refusal := self.target_refusal(*target):
            return refusal
        pin = yield from _pin(target[0], "auto", "Target")
        if not isinstance(pin, Refusal) and canonical_ip(target[0]) is None:
            query = SystemQuery(target[0])
            pin = preflight.judge_by_system(query, (yield query))
        if isinstance(pin, Refusal):
            return pin
        return self._unlooped(Route(choice, pin, target, loops=self.listeners))

    @staticmethod
    def _unlooped(route: Route) -> Route | Refusal:
        """The route, unless it leads to a listener of this process."""
        loops = (route.loop((address, route.port)) for address in route.pin.addresses)
        return next(filter(None, loops), route)

    def _pin_hop(self, egress: Egress, hop: Place) -> _Steps[Pin]:
        """The addresses to dial.

        The system resolves a name that is not pinned. The name of a proxy is resolved here, so
        that its addresses can be tried side by side. The name of a target is left to mitmproxy, as
        without this addon, unless mitmproxy listens at that port: then its addresses are checked
        first.
        """
        pin = yield from _pin(hop[0], egress.family, "Proxy" if egress.proxy else "Target")
        if isinstance(pin, Refusal) or pin.family is not None:
            return pin
        query = SystemQuery(hop[0])
        if egress.proxy:
            return preflight.judge_by_system(query, (yield query))
        if self.listeners.at_port(hop[1]):
            found = preflight.judge_by_system(query, (yield query))
            return pin if isinstance(found, Refusal) else found
        return pin

    # -- learning

    def report(self, route: Route, outcome: Outcome, *, reused: bool = False) -> None:
        """Take in what came of a dial or of a whole attempt on a route.

        ``reused``: a connection broke that had carried requests before.
        """
        if outcome.step == "dial":
            self._remember(route, outcome)
        if not route.choice.unmatched:
            health, choice = self.standing.health, route.choice
            health.report(route.egress, route.target, choice.pool, outcome, reused=reused)
        if outcome.failure is not LEFT:
            self.on_outcome(route, outcome)

    def _heard(self, event: CircuitEvent) -> None:
        self.on_circuit(event)

    def _remember(self, route: Route, outcome: Outcome) -> None:
        """The address that accepted last is dialled first next time, until it does not accept."""
        hop, address = route.hop, canonical_ip(outcome.address) or outcome.address
        if outcome.failure:
            if self._answered.get(hop) == address:
                del self._answered[hop]
        elif len(route.pin.addresses) > 1:
            self._answered[hop] = address
            self._answered.move_to_end(hop)
            while len(self._answered) > REMEMBERED:
                self._answered.popitem(last=False)

    def _good_first(self, pin: Pin, hop: Place) -> Pin:
        good = self._answered.get(hop)
        if good is None or good not in pin.addresses:
            return pin
        others = tuple(address for address in pin.addresses if address != good)
        return replace(pin, addresses=(good, *others))

    def _known_addresses(self, host: str) -> Iterator[str]:
        """The addresses of a host that are known without asking anybody."""
        for answer in (self.resolver.known(host, 4), self.resolver.known(host, 6)):
            yield from answer.addresses if answer else ()


def _members(decision: Decision, upstream: Proxy | None) -> Members:
    """The egresses to pick from; ``upstream`` stands for ``direct`` where no rule matches."""
    if decision.outcome == "egress" and decision.unmatched and upstream is not None:
        return Members((Egress(upstream, upstream.family),))
    return decision.members


def _pin(host: str, family: ProxyFamily, party: Party) -> _Steps[Pin]:
    plan = preflight.plan(host, family, party)
    return preflight.judge(plan, (yield plan)) if isinstance(plan, Query) else plan


def _unaskable(egress: Egress, host: str, port: int) -> Refusal | None:
    """Why the proxy's protocol cannot carry a target, known before the dial."""
    try:
        if egress.proxy is None:
            return None
        if egress.proxy.type == "socks5":
            socks5.Handshake(host, port)
        else:
            http_connect.connect_request(host, port)
    except (socks5.Socks5Error, http_connect.ConnectError) as error:
        why = Sentence("of_proxy", "Proxy {name}: {what}", name=egress.name, what=error.text)
        detail = refusing(why)
        return Refusal(Reason.HANDSHAKE_FAILED, detail, host=host)
    return None


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
