"""All use cases of a process, which has one policy. Every face gets this object."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from ..client.stream import TlsOf
from ..collector import Collector
from ..dns.hosts import HostsFile
from ..dns.resolver import DnsResolver
from ..errors import InvalidEntry, NotRunning
from ..log import get_logger
from ..model.decision import Decision, Route
from ..model.proxy import Proxy
from ..model.rule import FilterCompiler
from ..model.settings import Settings
from ..policy import engine
from ..policy.health import CircuitEvent
from ..policy.hop import Outcome
from ..policy.preflight import KnowingResolver
from ..router import EgressRouter
from .attempts import Attempts
from .checks import Checker
from .echo import KEY_FILE
from .events import Events
from .exit_looks import ExitLooks
from .exits import Exits
from .explain import ExplainQuery, Explanation, explain, target_of
from .fetcher import Fetcher
from .history import History
from .hits import Hits
from .in_force import Opened, PolicyInForce, closed_snapshot
from .journal import JournalWriter
from .known_exits import KnownExits
from .live import LiveFeed
from .opening import HowToOpen
from .prober import Prober, default_tls
from .probes import Probes
from .proxies import Proxies
from .states import ResetView, States, StateView
from .steering import Steering
from .subscriptions import Subscriptions
from .transfer import Transfer
from .upkeep import Taken, Upkeep
from .usage import Uses

if TYPE_CHECKING:
    from .assignments import Assignments
    from .bulk import Bulk
    from .measured import Measured
    from .members import ForgottenLeases, PoolMembers
    from .overview import Overviews
    from .pools import Pools
    from .rule_facts import RuleFacts
    from .rule_order import RuleOrder
    from .rules import Rules
    from .settings import PolicySettings
    from .status import StatusView

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Settings, and what they name, opened."""

    settings: Settings
    confdir: Path
    resolver: KnowingResolver
    opened: Opened


class Management:
    """One for a process, on one event loop. Refuses everything until it is configured.

    ``flow_for`` makes the opaque flow on which the filters of rules are evaluated, ``tls`` the
    settings for tests of proxies.
    """

    def __init__(
        self,
        compile_filter: FilterCompiler,
        flow_for: Callable[[ExplainQuery], object],
        tls: TlsOf = default_tls,
        collector: Collector | None = None,
    ) -> None:
        self.router = EgressRouter(closed_snapshot(), DnsResolver())
        self.in_force = PolicyInForce(self.router, compile_filter)
        self.upkeep = Upkeep(self.in_force, collector or Collector())
        self.journal = JournalWriter(self.in_force)
        self.events = Events(self.journal)
        known = self.known_exits = KnownExits(self.in_force, self.journal)
        known.on_event, standing = self.events.add, self.router.standing
        known.on_enforced, standing.exit_refusal = standing.came_back, known.exit_refusal
        self.router.exit_of = known.address
        self.exits = Exits(self.in_force, known, lambda key: self.proxies.row(key).name)
        looker = Prober(self.in_force, tls)
        self.exit_looks = ExitLooks(self.in_force, looker, known, self.exits)
        self.prober = replace(looker, on_seen=self.exit_looks.tested)
        health = standing.health
        self.probes = Probes(self.in_force, self.prober, self.journal, report=health.report)
        self.checks = Checker(self.in_force, self.prober, health, health.report)
        self.router.on_circuit = self._circuit_changed
        self.router.on_outcome = self._attempted
        self.attempts = Attempts()
        self.history = History()
        # One for each exit: each connection asks, and a new one would take longer.
        meter = lru_cache(maxsize=1024)(lambda name: partial(self.history.carried, name))
        self.router.meter_of = lambda egress: meter(egress.name)
        self.router.on_failover = self.attempts.failed_over
        self._uses = Uses(self.in_force)
        self.states = States(self.in_force, self.router.standing)
        self.proxies = Proxies(self.upkeep, self._uses, self.probes.last, self._fares)
        self.steering = Steering(self.upkeep, self.proxies, self._decide)
        self.transfer = Transfer(self.upkeep)
        fetcher = Fetcher(self.in_force, tls)
        self.subscriptions = Subscriptions(self.upkeep, fetcher, self.journal)
        self.hits = Hits(lambda: self.router.snapshot)
        self.live = LiveFeed(self.history.ended, self.hits.ended)
        self.options: Settings | None = None
        self.listening = ""
        """The URL of the API; empty while it does not listen."""
        self.proxy_places: Callable[[], tuple[str, ...]] = tuple
        """Where clients find mitmproxy as their HTTP proxy: ``host:port``."""
        self._flow_for = flow_for
        self._running = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._recalling: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether flows leave by this process. Otherwise nobody knows here how proxies fare."""
        return self._running

    # -- what people list, look at and change: each is loaded when it is first asked for

    @cached_property
    def bulk(self) -> "Bulk":
        from .bulk import Bulk

        return Bulk(self.upkeep, self.proxies)

    @cached_property
    def pools(self) -> "Pools":
        from .pools import Pools

        return Pools(self.upkeep, self._uses)

    @cached_property
    def members(self) -> "PoolMembers":
        from .members import PoolMembers

        return PoolMembers(
            self.in_force, self.pools, self.states, self.router.picker, self.exits.of
        )

    @cached_property
    def overviews(self) -> "Overviews":
        from .overview import Overviews

        return Overviews(
            self.history, self.in_force, self.states, self.router.standing, self.known_exits,
            lambda name: self.proxies.row(name).id,
        )  # fmt: skip

    @cached_property
    def rule_facts(self) -> "RuleFacts":
        from .rule_facts import RuleFacts

        return RuleFacts(
            lambda: self.router.snapshot,
            lambda label: self.hits.of(label) if self._running else None,
        )

    @cached_property
    def rules(self) -> "Rules":
        from .rules import Rules

        return Rules(self.upkeep, self.rule_facts)

    @cached_property
    def rule_order(self) -> "RuleOrder":
        from .rule_order import RuleOrder

        return RuleOrder(self.in_force, self.rule_facts)

    @cached_property
    def assignments(self) -> "Assignments":
        from .assignments import Assignments

        return Assignments(self.upkeep, self.proxies)

    @cached_property
    def settings(self) -> "PolicySettings":
        from .settings import PolicySettings

        return PolicySettings(self.upkeep)

    # -- life cycle

    def configure(self, settings: Settings, confdir: Path, environ: Mapping[str, str]) -> None:
        """Open what the settings name and put it in force. What did not change stays open.

        Raises the errors of ``open``: then everything stays as it was.
        """
        self.take(self.open(settings, confdir, environ)).settle()

    def open(
        self,
        settings: Settings,
        confdir: Path,
        environ: Mapping[str, str],
        **how: Unpack[HowToOpen],
    ) -> Prepared:
        """Open all that the settings name. What is in force stays in force.

        Raises ``InvalidEntry`` (``PolicyFileError``) and ``RegistryUnavailable``: then nothing is
        left open.
        """
        resolver = self._resolver_for(settings)
        opened = self.upkeep.opener.open(settings, confdir, environ, **how)
        return Prepared(settings, confdir, resolver, opened)

    def discard(self, prepared: Prepared) -> None:
        """Close what was opened and is not taken."""
        self.upkeep.discard(prepared.opened)

    def take(self, prepared: Prepared) -> Taken:
        """Put in force what was opened."""
        options, resolver = self.options, self.router.resolver
        registry = self.in_force.registry
        policy = self.upkeep.take(prepared.opened)
        self.options, self.router.resolver = prepared.settings, prepared.resolver
        undo_key = self.exit_looks.use_key(prepared.confdir / KEY_FILE)

        def undo() -> None:
            self.options, self.router.resolver = options, resolver
            undo_key()
            policy.undo()

        def settle() -> None:
            if resolver is not self.router.resolver:
                self._close_resolver(resolver)
            policy.settle()
            if self._running and registry is not self.in_force.registry:
                self._recall_soon()

        return Taken(undo, settle)

    def start(self) -> None:
        """Watch for edits, on the running loop."""
        self._running = True
        self.upkeep.start()
        self.checks.start()
        self._recall_soon()
        self.exit_looks.start()
        self.subscriptions.start()

    async def recall(self) -> None:
        """Take in what the registry has beside the policy: events, results of tests, exits."""
        try:
            await self.events.recall()
            await self.probes.recall()
            await self.known_exits.load()
            await self.subscriptions.recall()
        except Exception:
            logger.exception("Egress: events, tests and exits of the registry cannot be read")

    def _recall_soon(self) -> None:
        if self._recalling:
            self._recalling.cancel()
        self._recalling = self._keep(self.recall(), "egress recall")

    def stop(self) -> asyncio.Task[None] | None:
        """Refuse everything and close all; it may be configured again."""
        self._running = False
        self.live.close()
        self.exit_looks.stop()
        self.subscriptions.stop()
        self.journal.stop()
        if self._recalling:
            self._recalling.cancel()
        self._keep(self.probes.aclose(), "egress probes close")
        checks = self._keep(self.checks.aclose(), "egress checks close")
        self.options = None
        self._close_resolver(self.router.resolver)
        self.router.resolver = DnsResolver()
        closing = self.upkeep.stop()
        return self._keep(_all_of(checks, closing), "egress close")

    # -- what flows come to

    def _attempted(self, route: Route, outcome: Outcome) -> None:
        self.history.attempted(route, outcome)
        if outcome.step == "attempt":
            self.checks.saw(route.egress)
            self.attempts.saw(route, outcome)

    def _circuit_changed(self, event: CircuitEvent) -> None:
        name = event.egress.name if event.egress else ""
        self.events.circuit(event)
        said = f"{event.kind}: {event.why}" if event.why else event.kind
        if event.egress is None:
            logger.warning(f"Egress: own network? {said}")
        elif event.kind != "half-open" and not event.again:
            logger.info(f"Egress: proxy {name}: circuit {said}")

    def forget_leases(self, key: str) -> "ForgottenLeases":
        """Let the keys of a pool be dealt out anew. Raises as ``reset`` does."""
        self._need_flows("Leases")
        return self.members.forget_leases(key)

    def _need_flows(self, what: str) -> None:
        if not self._running:
            raise NotRunning(f"{what} lie in the memory of a mitmproxy, and none runs here")

    def _fares(self, proxy: Proxy) -> StateView | None:
        """How a proxy of the policy in force fares, if flows leave by this process at all."""
        is_in_force = self.router.snapshot.proxies.get(proxy.name) is proxy
        return self.states.of(proxy.name) if self._running and is_in_force else None

    # -- asking

    def explain(self, query: ExplainQuery, flow: object = None) -> Explanation:
        """What the policy says about a request, or about the opaque ``flow`` that it is of. Raises
        ``InvalidEntry``; sends nothing."""
        router = self.router
        states = self.states if self._running else None
        flow_for = self._flow_for if flow is None else lambda _: flow
        return explain(router.snapshot, query, flow_for, router.target_refusal, states)

    def _decide(self, query: ExplainQuery) -> Decision:
        return engine.decide(self.router.snapshot, target_of(query, self._flow_for))

    def reset(self, key: str) -> ResetView:
        """Close the circuit of a proxy, by its id or name. Raises ``NotFound``, and
        ``NotRunning`` where no flow leaves by this process."""
        self._need_flows("Circuits")
        return self.states.reset(self.exits.find(key))

    def status(self) -> "StatusView":
        from .status import status_of

        return status_of(
            self.in_force,
            self.options,
            self.live.totals,
            self.listening,
            self.proxy_places(),
            self.exits,
            self.states.circuits(),
            self.checks.status(),
        )

    def measure(self) -> "Measured":
        """What metrics show."""
        from .measured import measure

        return measure(self.status(), self.attempts, self.history, self.in_force, self.states)

    # -- the resolver

    def _resolver_for(self, settings: Settings) -> KnowingResolver:
        if self.options is not None and settings.dns_part == self.options.dns_part:
            return self.router.resolver
        hosts = HostsFile(settings.hosts_file) if settings.hosts_file else None
        try:
            return DnsResolver(settings.dns, settings.dns_timeout, hosts)
        except InvalidEntry as error:  # a nameserver that needs an extra
            raise InvalidEntry(f"egress_dns: {error}", "egress_dns") from error

    def _close_resolver(self, resolver: KnowingResolver) -> None:
        if isinstance(resolver, DnsResolver):
            self._keep(resolver.aclose(), "egress-dns close")

    def _keep(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None] | None:
        try:
            task = asyncio.get_running_loop().create_task(work, name=name)
        except RuntimeError:  # the loop has ended, and all that went on in it
            work.close()
            return None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _all_of(*tasks: asyncio.Task[None] | None) -> None:
    await asyncio.gather(*filter(None, tasks))
