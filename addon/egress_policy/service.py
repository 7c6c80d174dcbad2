"""The use cases of a running proxy, over policy, pre-flight and resolver.

Owns the current ``Snapshot`` and what the process learns (pool positions, the address that
answered last). Chooses an egress for a target and works out the route to dial; dials nothing.
"""

from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from .errors import Reason
from .model.decision import Egress, Refusal, Target, Transport
from .model.family import ProxyFamily
from .model.host import canonical_ip
from .model.proxy import Proxy
from .policy import engine, preflight
from .policy.preflight import Answer, KnowingResolver, Pin, Query
from .policy.selection import Rotation
from .policy.snapshot import Snapshot
from .wire import http_connect, socks5

OWN_PLACE = "The management API cannot be reached through the proxy; refusing to egress"
REMEMBERED = 4096
"""How many proxies and hosts the address that answered last is kept for."""


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
    edition: object = field(default=None, compare=False, repr=False)
    """Stands for the policy it was made under; under another one it leads nowhere. Not the policy
    itself: a stored flow keeps it for as long as it likes."""
    target: Target | None = field(default=None, compare=False, repr=False)
    """What it was made for; ``None`` where no rule was asked."""
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
    own_ports: tuple[int, ...] = ()
    """Ports of this process on this machine that no flow may reach."""

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

    def leads_home(self, peer: tuple[str, int], local: str) -> bool:
        """Whether a connection from ``local`` to ``peer`` has reached this process itself."""
        return peer[1] in self.own_ports and (_is_local(peer[0]) or peer[0] == local)

    def to_itself(self) -> Refusal:
        """The refusal for a connection that leads home."""
        return self.refusal(Reason.RULE, OWN_PLACE)

    def refusal(self, reason: Reason, detail: str) -> Refusal:
        """A refusal that names this route."""
        host = self.egress.proxy.host if self.egress.proxy else self.target[0]
        return Refusal(reason, detail, self.egress.name, self.egress.family, host, self.rule)

    def deleted(self) -> Refusal:
        """The refusal for a route that the policy changed or dropped meanwhile."""
        what = f"The policy for egress {self.egress.name} changed meanwhile"
        return self.refusal(Reason.DELETED, f"{what}; refusing to egress (fail-closed)")


type _Steps[T] = Generator[Query, Answer, T | Refusal]


class EgressService:
    """Decides and prepares. ``snapshot`` may be replaced whole at any time."""

    def __init__(self, snapshot: Snapshot, resolver: KnowingResolver) -> None:
        self._snapshot = snapshot
        self.edition = object()
        """Stands for the policy in force, also beside those of a service before this one."""
        self.resolver = resolver
        self.own_places: tuple[tuple[str, int], ...] = ()
        """Where the management API listens: IP literals and ports that no flow may reach."""
        self._rotation = Rotation()
        self._answered: OrderedDict[tuple[str, int], str] = OrderedDict()

    @property
    def snapshot(self) -> Snapshot:
        """The policy in force."""
        return self._snapshot

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.edition = object()

    def choose(
        self, target: Target, taken: str | None = None, unmatched: Proxy | None = None
    ) -> Choice:
        """Decide for a target and pick a member if it is a pool.

        ``taken`` is the key of the egress an open connection already leaves by: it is kept when
        it is as good as any. ``unmatched`` is the proxy that stands for ``direct`` where no rule
        matches (the upstream of mitmproxy's own mode).
        """
        decision = engine.decide(self.snapshot, target)
        common = Choice(
            rule=decision.rule,
            pool=decision.pool,
            unmatched=decision.unmatched,
            edition=self.edition,
            target=target,
            upstream=unmatched,
        )
        if decision.outcome == "refuse":
            return replace(common, refusal=decision.refusal)
        if decision.outcome == "undecided":
            return common
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
        unchanged = choice.edition in (None, self.edition) and self.is_current(route)
        return route if unchanged else route.deleted()

    def _steps(self, choice: Choice, host: str, port: int, transport: Transport) -> _Steps[Route]:
        """The way to a route: yields what has to be asked, and is sent the answer."""
        egress = choice.egress
        if egress is None:
            return choice.refusal or _undecided(choice)
        proxy = egress.proxy
        if objection := self._objection(proxy, host, port):
            return Refusal(*objection, egress.name, egress.family, host, choice.rule)
        if proxy is None:
            pin = yield from _pin(host, egress.family)
            target = (host, port)
        else:
            pin = yield from _pin(proxy.host, egress.family)
            literal = host
            if not isinstance(pin, Refusal) and egress.target_family:
                second = yield from _pin(host, egress.target_family)
                if isinstance(second, Refusal):
                    return replace(second, proxy=egress.name, rule=choice.rule)
                literal = second.addresses[0]
            target = (literal, port)
        if isinstance(pin, Refusal):
            return replace(pin, proxy=egress.name, rule=choice.rule)
        hop = (proxy.host, proxy.port) if proxy else (host, port)
        pin = self._good_first(pin, hop)
        own = tuple(port for _, port in self.own_places)
        route = Route(egress, pin, target, transport, choice.rule, choice, own)
        if route.pin.family and any(self._is_own(one, route.port) for one in pin.addresses):
            return route.to_itself()
        return route

    def is_current(self, route: Route) -> bool:
        """Whether the policy in force still gives what the route is for its egress, unedited.

        Raises what a filter raises.
        """
        target, key = route.choice.target, route.egress.key
        if target is None:
            return key in self.snapshot.egress_keys
        if route.choice.edition is self.edition:
            return True
        decision = engine.decide(self.snapshot, target)
        return any(one.key == key for one in _members(decision, route.choice.upstream))

    def answered(self, route: Route, address: str) -> None:
        """Remember the address that accepted a connection: it is dialled first next time."""
        if len(route.pin.addresses) > 1:
            key = (route.proxy.host if route.egress.proxy else route.target[0], route.port)
            self._answered[key] = canonical_ip(address) or address
            self._answered.move_to_end(key)
            while len(self._answered) > REMEMBERED:
                self._answered.popitem(last=False)

    def _objection(self, proxy: Proxy | None, host: str, port: int) -> tuple[Reason, str] | None:
        """Why a target is refused before anything is asked or dialled for it."""
        if self._is_own(host, port):
            return Reason.RULE, OWN_PLACE
        if not 0 < port < 65536:
            # asyncio raises what mitmproxy does not catch: its client would wait for ever
            return Reason.CONNECT_REFUSED, f"Port {port} is none (1..65535); refusing to egress"
        if proxy and (why := _unaskable(proxy, host, port)):
            return Reason.HANDSHAKE_FAILED, f"Proxy {proxy.name}: {why}; refusing to egress"
        return None

    def _is_own(self, host: str, port: int) -> bool:
        """Whether a host names this machine, as far as can be told without asking anybody."""
        return any(
            port == own and (host == address or _is_local(host)) for address, own in self.own_places
        )

    def _good_first(self, pin: Pin, hop: tuple[str, int]) -> Pin:
        good = self._answered.get(hop)
        if good is None or good not in pin.addresses:
            return pin
        others = tuple(address for address in pin.addresses if address != good)
        return replace(pin, addresses=(good, *others))


def _members(decision: engine.Decision, upstream: Proxy | None) -> tuple[Egress, ...]:
    """What to pick from; ``upstream`` stands for ``direct`` where no rule matches."""
    if decision.outcome == "egress" and decision.unmatched and upstream is not None:
        return (Egress(upstream, upstream.family),)
    return decision.members


def _pin(host: str, family: ProxyFamily) -> _Steps[Pin]:
    plan = preflight.plan(host, family)
    if isinstance(plan, Pin) and plan.family is None and not _is_resolvable(host):
        # asyncio raises what mitmproxy does not catch: its client would wait for ever
        detail = f"DNS resolution failed for {host!a}; refusing to egress (fail-closed)"
        return Refusal(Reason.DNS_FAILURE, f"{detail}: not a DNS name", host=host)
    return preflight.judge(plan, (yield plan)) if isinstance(plan, Query) else plan


def _unaskable(proxy: Proxy, host: str, port: int) -> str:
    """Why the proxy's protocol cannot carry the target, empty if it can: told before a dial."""
    try:
        if proxy.type == "socks5":
            socks5.Handshake(host, port)
        else:
            http_connect.connect_request(host, port)
    except (socks5.Socks5Error, http_connect.ConnectError) as error:
        return str(error)
    return ""


def _is_local(host: str) -> bool:
    """Whether a canonical host is this machine: localhost (RFC 6761 section 6.3), loopback, or the
    unspecified address, which systems connect to themselves."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_resolvable(host: str) -> bool:
    """Whether the system's resolver can be asked for ``host``, be it in vain."""
    try:
        return b"\0" not in host.encode("idna")
    except UnicodeError:
        return False


def _undecided(choice: Choice) -> Refusal:
    return Refusal(
        Reason.ERROR,
        f"Rule {choice.rule} needs the request, which this connection does not have; "
        "refusing to egress (fail-closed)",
        rule=choice.rule,
    )
