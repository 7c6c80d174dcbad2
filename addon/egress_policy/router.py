"""The use cases of a running proxy, over policy, pre-flight and resolver.

Owns the current ``Snapshot`` and what the process learns (the state of pools, the address that
answered last). Chooses an egress for a target and works out the route to dial; dials nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Final

from .client.own_machine import is_own_host
from .errors import Reason
from .model.decision import (
    Choice,
    Decision,
    Egress,
    Members,
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
from .policy.hop import Outcome
from .policy.listeners import LOOP, Listeners
from .policy.preflight import DnsAnswer, KnowingResolver, Query, SystemQuery
from .policy.selection import PoolPicker
from .policy.snapshot import Snapshot
from .wire import http_connect, socks5

REMEMBERED: Final = 4096
"""For how many proxies and hosts the address that answered last is kept."""

type _Steps[T] = Generator[Query | SystemQuery, DnsAnswer, T | Refusal]


class EgressRouter:
    """Chooses and prepares. ``snapshot`` may be replaced whole at any time."""

    def __init__(
        self,
        snapshot: Snapshot,
        resolver: KnowingResolver,
        is_own_host: Callable[[str], bool] = is_own_host,
    ) -> None:
        self._snapshot = snapshot
        self.generation = object()
        """Stands for the policy in force. No two routers share one."""
        self.resolver = resolver
        self.listeners = Listeners(is_own_host, self._known_addresses)
        self._picker = PoolPicker()
        self._answered: OrderedDict[Place, str] = OrderedDict()

    @property
    def snapshot(self) -> Snapshot:
        """The policy in force."""
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.generation = object()
        self._picker.keep(snapshot.pools)

    # -- choosing

    def choose(
        self, target: Target, taken: str | None = None, unmatched: Proxy | None = None
    ) -> Choice:
        """Decide for a target, and pick a member if the decision is for a pool.

        ``taken`` is the key of the egress by which an open connection already leaves: it is kept
        if the decision allows it. ``unmatched`` is the proxy that stands for ``direct`` where no
        rule matches (the upstream of mitmproxy's own mode).
        """
        if refusal := self.target_refusal(target.host, target.port):
            return Choice(refusal=refusal, generation=self.generation)
        decision = engine.decide(self.snapshot, target)
        egress, refusal = None, decision.refusal
        pool = decision.picked_from
        if decision.outcome == "egress":
            if decision.unmatched and unmatched is not None and target.transport == "udp":
                refusal = engine.udp_refusal(unmatched.name, decision.rule)
            else:
                members = _members(decision, unmatched)
                picked: Egress | Refusal | None = members[0]
                if pool:
                    picked = self._picker.pick(pool, members, target, taken)
                if isinstance(picked, Refusal):
                    refusal = replace(picked, rule=decision.rule)
                else:
                    egress = picked
        return Choice(  # with neither, an undecided one, it is open
            egress,
            refusal,
            decision.rule,
            decision.pool,
            decision.unmatched,
            self.generation,
            Purpose(target),
            unmatched,
            pool.strategy if pool else "",
        )

    def target_refusal(self, host: str, port: int) -> Refusal | None:
        """Why nothing leaves for a target, whatever the policy says about it."""
        if not is_target_host(host):
            detail = f"{host!a} is neither an IP address nor a host name; refusing to egress"
            return Refusal(Reason.DNS_FAILURE, detail, host=host)
        if not 0 < port < 65536:
            # asyncio raises what mitmproxy does not catch: its client would wait for ever
            detail = f"Port {port} is not between 1 and 65535; refusing to egress"
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
        steps = self._steps(choice, host, port, transport)
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
        route = Route(choice, self._good_first(pin, hop), target, transport, self.listeners)
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

    def report(self, route: Route, outcome: Outcome) -> None:
        """Take in what came of a dial or a handshake on a route.

        The address that accepted last is dialled first next time, until it does not accept.
        """
        hop, address = route.hop, canonical_ip(outcome.address) or outcome.address
        if outcome.failure:
            if outcome.step == "dial" and self._answered.get(hop) == address:
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
        detail = f"Proxy {egress.name}: {error}; refusing to egress"
        return Refusal(Reason.HANDSHAKE_FAILED, detail, host=host)
    return None


def undecided(choice: Choice) -> Refusal:
    """The refusal for a choice that is still open where nothing more will be known."""
    if not choice.rule:
        return Refusal(Reason.ERROR, "No egress was chosen; refusing to egress (fail-closed)")
    detail = (
        f"Rule {choice.rule} looks at what is not there: the request of a connection without one, "
        "or a body that is streamed (stream_large_bodies); refusing to egress (fail-closed)"
    )
    return Refusal(Reason.RULE, detail, rule=choice.rule)
