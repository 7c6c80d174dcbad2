"""All use cases together, for a process that has one policy: what every face is given."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..dns.hosts import HostsFile
from ..dns.resolver import DnsResolver
from ..errors import InvalidEntry
from ..model.rule import FilterCompiler
from ..model.settings import Settings
from ..policy.preflight import KnowingResolver
from ..registry.errors import RegistryUnavailable
from ..requirements import what_to_install
from ..router import EgressRouter
from ..version import VERSION
from .entries import Entries
from .explain import explain
from .in_force import Opened, PolicyInForce, Taken, closed_snapshot
from .live import LiveFeed
from .probes import Probes, TlsFactory, default_tls
from .transfer import Transfer
from .views import (
    DnsStatus,
    ExplainQuery,
    Explanation,
    PolicyFileStatus,
    RefusalCount,
    RegistryStatus,
    StatusView,
    TotalsView,
)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Settings, and all that they name, opened."""

    settings: Settings
    resolver: KnowingResolver
    opened: Opened


class Management:
    """One a process, on one event loop. Refuses everything until it is configured.

    ``flow_for`` makes the opaque flow on which the filters of rules are evaluated, ``tls`` the
    settings for tests of proxies.
    """

    def __init__(
        self,
        compile_filter: FilterCompiler,
        flow_for: Callable[[ExplainQuery], object],
        tls: TlsFactory = default_tls,
    ) -> None:
        self.router = EgressRouter(closed_snapshot(), DnsResolver())
        self.in_force = PolicyInForce(self.router, compile_filter)
        self.probes = Probes(self.in_force, tls)
        self.entries = Entries(self.in_force, self.probes.last)
        self.transfer = Transfer(self.in_force)
        self.live = LiveFeed()
        self.settings: Settings | None = None
        self.listening = ""
        """The URL of the API while it listens."""
        self._flow_for = flow_for
        self._closing: set[asyncio.Task[None]] = set()

    # -- life cycle

    def configure(self, settings: Settings, confdir: Path, environ: Mapping[str, str]) -> None:
        """Take what the settings name, and put it in force. What did not change stays open.

        Raises as ``open`` does: then everything stays as it was.
        """
        self.take(self.open(settings, confdir, environ)).settle()

    def open(
        self,
        settings: Settings,
        confdir: Path,
        environ: Mapping[str, str],
        *,
        mended_later: bool = False,
    ) -> Prepared:
        """Open all that the settings name, and change nothing of what is in force.

        Raises ``InvalidEntry`` (``PolicyFileError``) and ``RegistryUnavailable``: then nothing is
        left open. ``mended_later`` is for a policy file that cannot be used, see
        ``PolicyInForce.open``.
        """
        resolver = self._resolver_for(settings)
        try:
            opened = self.in_force.open(settings, confdir, environ, mended_later=mended_later)
        except RegistryUnavailable as error:
            raise RegistryUnavailable(f"egress_registry: {error}") from error
        except ImportError as error:
            if not (sentence := what_to_install(error)):
                raise
            what = f"egress_registry: {sentence}; or leave it empty to do without a registry"
            raise RegistryUnavailable(what) from error
        return Prepared(settings, resolver, opened)

    def discard(self, prepared: Prepared) -> None:
        """Let go of what is not to be taken after all."""
        self.in_force.discard(prepared.opened)

    def take(self, prepared: Prepared, refuse_all_because: str = "") -> Taken:
        """Put in force what was opened, or with ``refuse_all_because`` refuse everything."""
        settings, resolver = self.settings, self.router.resolver
        in_force = self.in_force.take(prepared.opened, refuse_all_because)
        self.settings, self.router.resolver = prepared.settings, prepared.resolver

        def undo() -> None:
            self.settings, self.router.resolver = settings, resolver
            in_force.undo()

        def settle() -> None:
            if resolver is not self.router.resolver:
                self._close_resolver(resolver)
            in_force.settle()

        return Taken(undo, settle)

    def start(self) -> None:
        """Watch for edits, on the running loop."""
        self.in_force.start()

    def stop(self) -> asyncio.Task[None] | None:
        """Refuse everything and let go of all; it may be configured again."""
        self.live.close()
        self._keep(self.probes.aclose(), "egress probes close")
        self.settings = None
        self._close_resolver(self.router.resolver)
        self.router.resolver = DnsResolver()
        return self.in_force.stop()

    # -- asking

    def explain(self, query: ExplainQuery) -> Explanation:
        """What the policy says about a request. Raises ``InvalidEntry``; sends nothing."""
        router = self.router
        return explain(router.snapshot, query, self._flow_for, router.target_refusal)

    def status(self) -> StatusView:
        in_force, snapshot = self.in_force, self.router.snapshot
        return StatusView(
            state="refusing" if in_force.problem else "in force",
            problem=in_force.problem,
            version=VERSION,
            default=snapshot.default,
            default_from=in_force.default_from,
            policy=self._file_status(),
            registry=self._registry_status(),
            dns=self._dns_status(),
            socks5=in_force.socks5,
            listen=self.listening,
            totals=self._totals(),
            warnings=snapshot.warnings,
            problems=snapshot.problems,
        )

    def _file_status(self) -> PolicyFileStatus:
        in_force = self.in_force
        path, file = str(in_force.file_path or ""), in_force.file
        if file is None:
            return PolicyFileStatus(path=path, error=in_force.file_error)
        return PolicyFileStatus(
            path=path,
            error=in_force.file_error,
            proxies=len(file.proxies),
            pools=len(file.pools),
            rules=len(file.rules),
        )

    def _registry_status(self) -> RegistryStatus | None:
        in_force, state = self.in_force, self.in_force.state
        if in_force.registry is None or state is None:
            return None
        return RegistryStatus(
            name=in_force.registry.name,
            revision=state.revision,
            error=in_force.registry_error,
            proxies=len(state.proxies),
            pools=len(state.pools),
            rules=len(state.rules),
            assignments=len(state.assignments),
        )

    def _dns_status(self) -> DnsStatus:
        settings = self.settings
        if settings is None:
            return DnsStatus(servers=(), timeout_ms=0, hosts_file="")
        return DnsStatus(
            servers=settings.dns,
            timeout_ms=round(settings.dns_timeout * 1000),
            hosts_file=str(settings.hosts_file or ""),
        )

    def _totals(self) -> TotalsView:
        totals = self.live.totals
        return TotalsView(
            flows=totals.flows,
            unmatched=totals.unmatched,
            by_use=dict(totals.by_use),
            by_proxy=dict(totals.by_proxy),
            refusals=tuple(
                RefusalCount(code=code, reason=reason, count=count)
                for (code, reason), count in totals.refusals.most_common()
            ),
        )

    # -- the resolver

    def _resolver_for(self, settings: Settings) -> KnowingResolver:
        if self.settings is not None and settings.dns_part == self.settings.dns_part:
            return self.router.resolver
        hosts = HostsFile(settings.hosts_file) if settings.hosts_file else None
        try:
            return DnsResolver(settings.dns, settings.dns_timeout, hosts)
        except InvalidEntry as error:  # one that needs an extra
            raise InvalidEntry(f"egress_dns: {error}", "egress_dns") from error

    def _close_resolver(self, resolver: KnowingResolver) -> None:
        if isinstance(resolver, DnsResolver):
            self._keep(resolver.aclose(), "egress-dns close")

    def _keep(self, closing: Coroutine[object, object, None], name: str) -> None:
        try:
            task = asyncio.get_running_loop().create_task(closing, name=name)
        except RuntimeError:  # no loop any more: nothing can be in flight either
            closing.close()
            return
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
