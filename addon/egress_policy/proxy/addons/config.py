"""Options, policy file and life cycle: what is in force, and honesty when it cannot be.

Before mitmproxy runs, whatever cannot be enforced is logged as an ERROR, which ends it with exit
status 1. Afterwards a bad option is rejected and a broken policy edit keeps the last good policy.
"""

import asyncio
import logging
import os
from pathlib import Path

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from ...errors import InvalidEntry
from ...model.rule import Policy
from ...model.settings import OPTIONS, Settings, parse_settings
from ...net.hosts import HostsFile
from ...net.resolver import DnsResolver
from ...policy.preflight import Resolver
from ...policy.snapshot import Snapshot, build_snapshot
from ...service import EgressService
from ...store.policy_file import PolicyFileError, load_policy
from ...store.watch import PolicyWatcher
from ...version import VERSION
from .. import seams
from ..filters import compile_filter
from .guard import EgressGuard

logger = logging.getLogger(__name__)

CLOSED = "the egress policy is not configured"
UPSTREAM_AUTH = (
    "upstream_auth cannot be used with the egress policy: it is one secret for every upstream. "
    "Give the proxy its own username and password in the policy file, and a rule that uses it."
)


class EgressConfig:
    """Declares the options, keeps the policy in force, and says when it cannot be.

    ``problem`` says why nothing is in force; everything is refused then, also in a master that
    goes on after an ERROR at start. ``reload_error`` says what is wrong with the last edit.
    """

    name = "egressconfig"

    def __init__(self, service: EgressService) -> None:
        self.service = service
        self.settings: Settings | None = None
        self.policy: Policy | None = None
        self.problem = CLOSED
        self.reload_error = ""
        self._misstated: list[str] = []
        self._running = False
        self._watcher: PolicyWatcher | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def load(self, loader: Loader) -> None:
        if reason := seams.check():
            raise RuntimeError(reason)
        if ctx.master.addons.get(EgressGuard.name) is None:
            ctx.master.addons.add(EgressGuard())
        for option in OPTIONS:
            loader.add_option(option.name, option.type, option.default, option.help)
        helps = {option.name: option.help for option in OPTIONS}
        for name, message in seams.drop_bad_deferred(ctx.options, helps.keys()).items():
            self._misstate(f"Bad value for {name}: {message}. {helps[name]}")

    def configure(self, updated: set[str]) -> None:
        if "connection_strategy" in updated and self._running:
            self._demand_lazy()
        if "upstream_auth" in updated and ctx.options.upstream_auth:
            self._fail(UPSTREAM_AUTH)
        if self.settings is None or any(
            name.startswith("egress_") or name == "upstream_auth" for name in updated
        ):
            self._read_settings()

    def running(self) -> None:
        for name in ctx.options.deferred:
            if name.startswith("egress_"):
                known = ", ".join(option.name for option in OPTIONS)
                self._misstate(f"Unknown option {name}. The egress options are: {known}")
        if self.settings is None and self.problem == CLOSED:  # added to a master that was set up
            self._read_settings()
        elif self.settings and self._misstated:
            self._apply(self.settings)
        self._running = True
        self._demand_lazy()
        if self._watcher:
            self._watcher.start()
        if not self.problem:
            logger.info(self.describe())

    def done(self) -> asyncio.Task[None] | None:
        closing = self._close(self.service.resolver)
        self._replace_watcher(None)
        self.service.snapshot = closed_snapshot()
        # The same object may be added again.
        self.settings, self.policy, self.problem, self.reload_error = None, None, CLOSED, ""
        self._misstated.clear()
        self._running = False
        return closing

    def describe(self) -> str:
        """One line: version, policy file, how much is in it, and the default."""
        snapshot = self.service.snapshot
        path = self.settings.policy if self.settings else None
        return (
            f"egress policy {VERSION}: {path or 'no policy file'}, "
            f"{_count(len(snapshot.proxies), 'proxy', 'proxies')}, "
            f"{_count(len(snapshot.rules), 'rule', 'rules')}, default {snapshot.default}"
        )

    def reload(self) -> bool:
        """Read the policy file again. A broken one keeps the last good policy; false then."""
        settings = self.settings
        if settings is None or settings.policy is None:
            return False
        try:
            policy = load_policy(settings.policy, compile_filter)
        except PolicyFileError as error:
            self.reload_error = str(error)
            kept = "the last good one stays in force" if self.policy else "everything is refused"
            logger.warning(f"Egress policy not reloaded, {kept}: {error}")
            return False
        self.reload_error = ""
        self.policy = policy
        self._apply(settings)
        logger.info(f"Egress policy reloaded: {self.describe()}")
        return True

    def _read_settings(self) -> None:
        values = {option.name: getattr(ctx.options, option.name) for option in OPTIONS}
        try:
            settings = parse_settings(values, os.environ)
            resolver = self._resolver_for(settings)
        except InvalidEntry as error:
            self._fail(str(error))
            return
        if self.settings is None or settings.policy != self.settings.policy:
            self._open_policy(settings.policy)
        if resolver is not self.service.resolver:
            self._close(self.service.resolver)
            self.service.resolver = resolver
        self.settings = settings
        self._apply(settings)

    def _open_policy(self, path: Path | None) -> None:
        """Take another policy file and watch it, or take none."""
        # The watcher comes first, so that an edit behind the reading is noticed.
        watcher = PolicyWatcher(path, self.reload, self._policy_gone) if path else None
        policy, problem = None, ""
        try:
            policy = load_policy(path, compile_filter) if path else Policy()
        except PolicyFileError as error:
            problem = str(error)
            self._fail(problem)
        self.policy, self.reload_error = policy, problem
        self._replace_watcher(watcher)

    def _apply(self, settings: Settings) -> None:
        """Put the policy in force, unless something that was asked for cannot be."""
        problems = [*self._misstated, *([UPSTREAM_AUTH] if ctx.options.upstream_auth else [])]
        if self.policy is None:
            problems.append(self.reload_error)
        self.problem = "; ".join(problems)
        snapshot = closed_snapshot()
        if self.policy is not None and not problems:
            snapshot = build_snapshot(
                self.policy,
                compile_filter,
                socks5_enabled=settings.socks5,
                default=settings.default,
            )
        self.service.snapshot = snapshot
        for warning in snapshot.warnings:
            logger.warning(f"Egress policy: {warning}")
        if self._running:
            self._demand_lazy()
        guard = ctx.master.addons.get(EgressGuard.name)
        if guard:
            guard.is_current = self.service.is_current
            guard.cut_stale()

    def _resolver_for(self, settings: Settings) -> DnsResolver:
        same = self.settings is not None and settings.dns_part == self.settings.dns_part
        if same and isinstance(self.service.resolver, DnsResolver):
            return self.service.resolver
        hosts = HostsFile(settings.hosts_file) if settings.hosts_file else None
        try:
            return DnsResolver(settings.dns, settings.dns_timeout, hosts)
        except InvalidEntry as error:  # one that needs an extra
            raise InvalidEntry(f"egress_dns: {error}", "egress_dns") from error

    def _demand_lazy(self) -> None:
        """A rule that needs the request cannot be decided at CONNECT, where eager connects."""
        if self.service.snapshot.needs_request and ctx.options.connection_strategy == "eager":
            logger.info(
                "Egress policy: a rule needs the request, so connection_strategy is now lazy"
            )
            ctx.options.update(connection_strategy="lazy")

    def _replace_watcher(self, watcher: PolicyWatcher | None) -> None:
        if self._watcher:
            self._watcher.stop()
        self._watcher = watcher
        if watcher and self._running:
            watcher.start()

    def _policy_gone(self) -> None:
        self.reload_error = "the policy file is gone"
        logger.warning("Egress policy file is gone; the last good policy stays in force")

    def _fail(self, message: str) -> None:
        """What is asked for cannot be enforced: no start, or no change of a running policy."""
        if self._running:
            raise exceptions.OptionsError(message)
        self.problem = message
        self.service.snapshot = closed_snapshot()
        logger.error(message)

    def _misstate(self, message: str) -> None:
        """An option that mitmproxy has dropped or never knew: what was meant cannot be told."""
        self._misstated.append(message)
        self._fail(message)

    def _close(self, resolver: Resolver) -> asyncio.Task[None] | None:
        if not isinstance(resolver, DnsResolver):
            return None
        try:
            task = asyncio.get_running_loop().create_task(
                resolver.aclose(), name="egress-dns close"
            )
        except RuntimeError:  # no loop any more: nothing can be in flight either
            return None
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


def closed_snapshot() -> Snapshot:
    """The policy of who has none: refuse everything."""
    return build_snapshot(Policy(default="refuse"), compile_filter)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
