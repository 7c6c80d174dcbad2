"""The use cases of a running proxy, over policy, pre-flight and resolver.

Owns the current ``Snapshot`` and what the process learns (pool positions, the address that
answered last). Chooses an egress for a target and works out the route to dial; dials nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

from .client.own_machine import is_own_host
from .errors import Reason
from .model.decision import Egress, Refusal, Target, Transport
from .model.family import ProxyFamily
from .model.host import Party, canonical_ip, is_target_host
from .model.proxy import Proxy
from .model.rule import DIRECT
from .policy import engine, preflight
from .policy.listeners import Listeners, Place
from .policy.preflight import DnsAnswer, KnowingResolver, Pin, Query, SystemQuery
from .policy.selection import Members, PoolPicker
from .policy.snapshot import Snapshot
from .wire import http_connect, socks5

LOOP = "This is a listener of mitmproxy itself, which no flow may reach; refusing to egress"
MAY_LOOP = (
    "mitmproxy listens at this port and the proxy is on the same machine, so that this name may "
    "lead back to mitmproxy; refusing to egress. With target_family the name is resolved here, "
    "and can be told"
)
REMEMBERED = 4096
"""How many proxies and hosts the address that answered last is kept for."""


@dataclass(slots=True, eq=False)
class Purpose:
    """What a connection is opened for, by which it is judged when the policy changes.

    ``None`` once it carries flows, which are judged one by one: it then stays as long as the policy
    has its egress, and keeps no flow in memory.
    """

    target: Target | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The egress chosen for a target, or why there is none.

    With neither ``egress`` nor ``refusal`` the choice needs the request and is still open.
    """

    egress: Egress | None = None
    refusal: Refusal | None = None
    rule: str = ""
    pool: str = ""
    unmatched: bool = False
    generation: object = field(default=None, compare=False, repr=False)
    """Stands for the policy it was made under; under another one it leads nowhere. Not the policy
    itself: a stored flow keeps it for as long as it likes."""
    purpose: Purpose = field(default_factory=lambda: Purpose(None), compare=False, repr=False)
    upstream: Proxy | None = field(default=None, compare=False, repr=False)
    """What stood for ``direct`` where no rule matches."""

    @property
    def is_open(self) -> bool:
        return self.egress is None and self.refusal is None


@dataclass(frozen=True)
class Route:
    """What to dial for one connection: the addresses of the hop, then the target to ask it for.

    ``target`` is (host, port), the host a canonical literal or an A-label. For a direct egress
    hop and target are the same.
    """

    egress: Egress
    pin: Pin
    target: tuple[str, int]
    transport: Transport = "tcp"
    rule: str = ""
    choice: Choice = field(default=Choice(), compare=False, repr=False)
    listeners: Listeners | None = field(default=None, compare=False, repr=False)

    @property
    def proxy(self) -> Proxy:
        """The proxy of a route that has one."""
        if self.egress.proxy is None:
            raise ValueError("a direct route has no proxy")
        return self.egress.proxy

    @property
    def port(self) -> int:
        """The port to dial."""
        return self.egress.proxy.port if self.egress.proxy else self.target[1]

    @property
    def is_stock(self) -> bool:
        """Direct and not pinned: what mitmproxy does on its own."""
        return self.egress.proxy is None and self.egress.family == "auto"

    def loop(self, place: Place) -> Refusal | None:
        """Why nothing must go to ``place`` for the target: one of them is a listener of this
        process. To be asked again at the dial, since what listens changes."""
        listeners = self.listeners
        if listeners is None:
            return None
        if any(listeners.reached_by(*one) for one in (place, self.target)):
            return self.refusal(Reason.LOOP, LOOP)
        if self.egress.proxy and listeners.may_be_reached_by((place[0],), *self.target):
            return self.refusal(Reason.LOOP, MAY_LOOP)
        return None

    def loop_back(self, peer: Place, local: str) -> Refusal | None:
        """Why a connection from address ``local`` to ``peer`` must not be used: it has reached this
        process, or would ask an exit for it."""
        if self.listeners and peer[0] == local and self.listeners.at_port(peer[1]):
            return self.refusal(Reason.LOOP, LOOP)
        return self.loop(peer)

    def refusal(self, reason: Reason, detail: str) -> Refusal:
        """A refusal that names this route."""
        host = self.egress.proxy.host if self.egress.proxy else self.target[0]
        return Refusal(reason, detail, self.egress.name, self.egress.family, host, self.rule)

    def superseded_refusal(self) -> Refusal:
        """The refusal for a route that the policy changed or dropped meanwhile."""
        what = f"The policy for egress {self.egress.name} changed meanwhile"
        return self.refusal(Reason.DELETED, f"{what}; refusing to egress (fail-closed)")


type _Steps[T] = Generator[Query | SystemQuery, DnsAnswer, T | Refusal]


class EgressRouter:
    """Decides and prepares. ``snapshot`` may be replaced whole at any time."""

    def __init__(
        self,
        snapshot: Snapshot,
        resolver: KnowingResolver,
        is_own_host: Callable[[str], bool] = is_own_host,
    ) -> None:
        self._snapshot = snapshot
        self.generation = object()
        """Stands for the policy in force, also beside those of a router before this one."""
        self.resolver = resolver
        self.listeners = Listeners(is_own_host, self._known_addresses)
        self._rotation = PoolPicker()
        self._answered: OrderedDict[tuple[str, int], str] = OrderedDict()

    @property
    def snapshot(self) -> Snapshot:
        """The policy in force."""
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.generation = object()

    def choose(
        self, target: Target, taken: str | None = None, unmatched: Proxy | None = None
    ) -> Choice:
        """Decide for a target and pick a member if it is a pool.

        ``taken`` is the key of the egress an open connection already leaves by: it is kept when
        it is as good as any. ``unmatched`` is the proxy that stands for ``direct`` where no rule
        matches (the upstream of mitmproxy's own mode).
        """
        if refusal := self.target_refusal(target.host, target.port):
            return Choice(refusal=refusal, generation=self.generation)
        decision = engine.decide(self.snapshot, target)
        common = Choice(
            rule=decision.rule,
            pool=decision.pool,
            unmatched=decision.unmatched,
            generation=self.generation,
            upstream=unmatched,
            purpose=Purpose(target),
        )
        if decision.outcome == "refuse":
            return replace(common, refusal=decision.refusal)
        if decision.outcome == "undecided":
            return common  # with neither: it is open
        if decision.unmatched and unmatched is not None and target.transport == "udp":
            return replace(common, refusal=engine.udp_refusal(unmatched.name, decision.rule))
        members = _members(decision, unmatched)
        egress = self._rotation.pick(decision.pool, members, decision.strategy, taken)
        return replace(common, egress=egress)

    async def route(
        self, choice: Choice, host: str, port: int, transport: Transport
    ) -> Route | Refusal:
        """Work out what to dial for ``host``:``port`` by the chosen egress, if the policy in force
        still has it."""
        return self._in_force(choice, await self.prepare(choice, host, port, transport))

    def route_now(self, choice: Choice, host: str, port: int, transport: Transport) -> Route | None:
        """The same, on the spot; ``None`` where DNS has to be asked for it, or it is a refusal."""
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
        """The same for an egress that no rule need use, as for a test of a proxy.

        Asks DNS for the pinned family only, and only where a name has to be resolved here.
        """
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
        """The way to a route: yields what has to be asked, and is sent the answer."""
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
        pin = self._good_first(pin, hop)
        route = Route(egress, pin, target, transport, choice.rule, choice, self.listeners)
        loops = (route.loop((address, route.port)) for address in pin.addresses)
        return next(filter(None, loops), route)

    def _pin_hop(self, egress: Egress, hop: tuple[str, int]) -> _Steps[Pin]:
        """The addresses to dial.

        A name that is not pinned is the system's to resolve. That of a proxy is resolved here, so
        that its addresses can be tried side by side; that of a target by mitmproxy, as it does
        without us, unless it listens at that port itself: then they are looked at first.
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

    def is_current(self, route: Route) -> bool:
        """Whether the policy in force still gives what the route is for its egress, unedited.

        Raises what a filter raises.
        """
        choice, key = route.choice, route.egress.key
        if target := choice.purpose.target:
            return choice.generation is self.generation or self.allows(target, key, choice.upstream)
        if choice.unmatched and choice.upstream:
            return self.snapshot.default == DIRECT
        return key in self.snapshot.egress_keys

    def allows(self, target: Target, key: str, unmatched: Proxy | None = None) -> bool:
        """Whether a target that leaves by the egress of this key may go on to do so.

        Raises what a filter raises.
        """
        decision = engine.decide(self.snapshot, target)
        return key in _members(decision, unmatched).by_key

    def answered(self, route: Route, address: str) -> None:
        """Remember the address that accepted a connection: it is dialled first next time."""
        if len(route.pin.addresses) > 1:
            key = (route.proxy.host if route.egress.proxy else route.target[0], route.port)
            self._answered[key] = canonical_ip(address) or address
            self._answered.move_to_end(key)
            while len(self._answered) > REMEMBERED:
                self._answered.popitem(last=False)

    def target_refusal(self, host: str, port: int) -> Refusal | None:
        """Why nothing at all leaves for a target, whatever the policy says of it."""
        if not is_target_host(host):
            detail = f"{host!a} is neither an IP address nor a host name; refusing to egress"
            return Refusal(Reason.DNS_FAILURE, detail, host=host)
        if not 0 < port < 65536:
            # asyncio raises what mitmproxy does not catch: its client would wait for ever
            detail = f"Port {port} is none (1..65535); refusing to egress"
            return Refusal(Reason.CONNECT_REFUSED, detail, host=host)
        if self.listeners.reached_by(host, port):
            return Refusal(Reason.LOOP, LOOP, host=host)
        return None

    def _known_addresses(self, host: str) -> Iterator[str]:
        """Those that are known without asking anybody."""
        for answer in (self.resolver.known(host, 4), self.resolver.known(host, 6)):
            yield from answer.addresses if answer else ()

    def _good_first(self, pin: Pin, hop: tuple[str, int]) -> Pin:
        good = self._answered.get(hop)
        if good is None or good not in pin.addresses:
            return pin
        others = tuple(address for address in pin.addresses if address != good)
        return replace(pin, addresses=(good, *others))


def _members(decision: engine.Decision, upstream: Proxy | None) -> Members:
    """What to pick from; ``upstream`` stands for ``direct`` where no rule matches."""
    if decision.outcome == "egress" and decision.unmatched and upstream is not None:
        return Members((Egress(upstream, upstream.family),))
    return decision.members


def _pin(host: str, family: ProxyFamily, party: Party) -> _Steps[Pin]:
    plan = preflight.plan(host, family, party)
    return preflight.judge(plan, (yield plan)) if isinstance(plan, Query) else plan


def _unaskable(egress: Egress, host: str, port: int) -> Refusal | None:
    """Why the proxy's protocol cannot carry a target: told before a dial."""
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
