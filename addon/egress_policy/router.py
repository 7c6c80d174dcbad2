"""From a target to a route: chooses an egress, works out what to dial, and learns what came of it.

``policy/choosing.py`` makes the choice. This module asks the resolver, turns the answers into a
``Route``, and takes in outcomes. It dials nothing.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from .client.own_machine import is_own_host
from .errors import Reason
from .model.decision import Choice, Egress, Meter, Place, Refusal, Route, Transport
from .model.proxy import Proxy
from .policy.answered import Answered
from .policy.choosing import Chooser, undecided
from .policy.fail_closed import refusing
from .policy.hop import LEFT, Outcome
from .policy.listeners import Listeners
from .policy.pinning import Steps, pin_direct, pin_hop, pin_host
from .policy.preflight import KnowingResolver
from .policy.snapshot import Snapshot
from .sentence import Sentence
from .wire import http_connect, socks5


class EgressRouter(Chooser):
    """Chooses and prepares. ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        snapshot: Snapshot,
        resolver: KnowingResolver,
        is_own_host: Callable[[str], bool] = is_own_host,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        listeners = Listeners(is_own_host, self._known_addresses)
        chance = chance or random.Random()  # noqa: S311 (no secret)
        super().__init__(snapshot, listeners, clock, chance)
        self.resolver = resolver
        self.exit_of: Callable[[Egress], str] = lambda _: ""
        """Says by which address targets see an egress, as far as is known."""
        self.meter_of: Callable[[Egress], Meter | None] = lambda _: None
        """Makes what counts the bytes of a route."""
        self.on_outcome: Callable[[Route, Outcome], None] = lambda *_: None
        """Called with each outcome that says something about the proxy."""
        self._answered = Answered()

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
        return await self._resolved(self._hop_steps(Egress(proxy, proxy.family), proxy))

    async def prepare_direct(self, host: str, port: int) -> Route | Refusal:
        """The route to a target that this process itself asks, without a proxy, for a person who
        said so. No flow takes it."""
        return await self._resolved(self._direct_steps(Choice(Egress(None)), (host, port)))

    async def _resolved(self, steps: Steps[Route]) -> Route | Refusal:
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

    def _steps(self, choice: Choice, host: str, port: int, transport: Transport) -> Steps[Route]:
        """The way to a route: yields the questions for DNS, and is sent the answers."""
        egress = choice.egress
        if egress is None:
            return choice.refusal or undecided(choice)
        proxy, target = egress.proxy, (host, port)
        if refusal := self.target_refusal(host, port) or _unaskable(egress, host, port):
            return replace(refusal, proxy=egress.name, family=egress.family, rule=choice.rule)
        hop = (proxy.host, proxy.port) if proxy else target
        pin = yield from pin_hop(egress, hop, self.listeners)
        if proxy and egress.target_family and not isinstance(pin, Refusal):
            second = yield from pin_host(host, egress.target_family)
            if isinstance(second, Refusal):
                return replace(second, proxy=egress.name, rule=choice.rule)
            target = (second.addresses[0], port)
        if isinstance(pin, Refusal):
            return replace(pin, proxy=egress.name, rule=choice.rule)
        addresses, meter = self._answered.first(pin, hop), self.meter_of(egress)
        return self._unlooped(Route(choice, addresses, target, transport, self.listeners, meter))

    def _hop_steps(self, egress: Egress, proxy: Proxy) -> Steps[Route]:
        hop = proxy.host, proxy.port
        pin = yield from pin_hop(egress, hop, self.listeners)
        if isinstance(pin, Refusal):
            return replace(pin, proxy=proxy.name)
        addresses = self._answered.first(pin, hop)
        return self._unlooped(Route(Choice(egress), addresses, hop, loops=self.listeners))

    def _direct_steps(self, choice: Choice, target: Place) -> Steps[Route]:
        if refusal := self.target_refusal(*target):
            return refusal
        pin = yield from pin_direct(target[0])
        if isinstance(pin, Refusal):
            return pin
        return self._unlooped(Route(choice, pin, target, loops=self.listeners))

    @staticmethod
    def _unlooped(route: Route) -> Route | Refusal:
        """The route, unless it leads to a listener of this process."""
        loops = (route.loop((address, route.port)) for address in route.pin.addresses)
        return next(filter(None, loops), route)

    def report(self, route: Route, outcome: Outcome, *, reused: bool = False) -> None:
        """Take in what came of a dial or of a whole attempt on a route.

        ``reused``: a connection broke that had carried requests before.
        """
        if outcome.step == "dial":
            self._answered.heard(route, outcome)
        if not route.choice.unmatched:
            health, choice = self.standing.health, route.choice
            health.report(route.egress, route.target, choice.pool, outcome, reused=reused)
        if outcome.failure is not LEFT:
            self.on_outcome(route, outcome)

    def _known_addresses(self, host: str) -> Iterator[str]:
        """The addresses of a host that are known without asking anybody."""
        for answer in (self.resolver.known(host, 4), self.resolver.known(host, 6)):
            yield from answer.addresses if answer else ()


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
