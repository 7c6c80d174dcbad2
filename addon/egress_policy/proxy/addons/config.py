"""Options and life cycle: what is asked for is in force, or it is said why it cannot be.

Before mitmproxy runs, whatever cannot be enforced is logged as an ERROR, which ends it with exit
status 1. Afterwards a bad option is rejected and a broken edit keeps the last good policy.
"""

import asyncio
import os
from pathlib import Path

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from ...errors import EgressError
from ...log import get_logger
from ...management.management import Management
from ...management.standing import UNCONFIGURED
from ...model.settings import OPTIONS, parse_settings
from ...version import VERSION
from .. import seams
from .guard import EgressGuard

logger = get_logger(__name__)

UPSTREAM_AUTH = (
    "upstream_auth cannot be used with the egress policy: it is one secret for every upstream. "
    "Give the proxy its own username and password in the policy file, and a rule that uses it."
)


class EgressConfig:
    """Declares the options, and keeps what they ask for in force."""

    name = "egressconfig"

    def __init__(self, management: Management) -> None:
        self.management = management
        management.standing.on_change = self._changed
        self._misstated: list[str] = []
        self._failed = ""
        self._running = False

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
        if "upstream_auth" in updated and _upstream_auth():
            self._fail(UPSTREAM_AUTH)
        if self.management.settings is None or any(
            name.startswith("egress_") or name == "upstream_auth" for name in updated
        ):
            self._configure()

    def running(self) -> None:
        for name in tuple(ctx.options.deferred):
            if name.startswith("egress_"):
                known = ", ".join(option.name for option in OPTIONS)
                self._misstate(f"Unknown option {name}. The egress options are: {known}")
        standing = self.management.standing
        if standing.barred == UNCONFIGURED:  # added to a master that was set up
            self._configure()
        elif self._misstated:
            self._put_in_force()
        self._running = True
        self._demand_lazy()
        self.management.start()
        if not standing.problem:
            logger.info(self.describe())

    def done(self) -> asyncio.Task[None] | None:
        self._running = False
        self._misstated.clear()  # the same object may be added again
        self._failed = ""
        return self.management.stop()

    def reload(self) -> str:
        """Read the policy file again; what is wrong with it, empty if nothing is."""
        standing = self.management.standing
        if standing.file_path is None:
            return "egress_policy names no file"
        return "" if standing.reload() else standing.file_error

    def cut(self, name: str = "") -> int:
        """Cut the live connections of an egress, or all there are; how many."""
        guard = ctx.master.addons.get(EgressGuard.name)
        return guard.cut(lambda route: name in ("", route.egress.name)) if guard else 0

    def describe(self) -> str:
        """One line: version, and what is in force."""
        return f"egress policy {VERSION}: {self.management.standing.describe()}"

    def _configure(self) -> None:
        values = {option.name: getattr(ctx.options, option.name) for option in OPTIONS}
        confdir = Path(ctx.options.confdir).expanduser()
        self._failed = ""
        self._bar()
        try:
            settings = parse_settings(values, os.environ, confdir)
            self.management.configure(settings, confdir, os.environ)
        except EgressError as error:
            if not self._running:
                self._failed = str(error)
            self._fail(str(error))

    def _put_in_force(self) -> None:
        self._bar()
        self.management.standing.put_in_force()

    def _bar(self) -> None:
        """Say what was asked for and cannot be, apart from what the policy file says itself."""
        standing = self.management.standing
        problems = [*self._misstated, *([UPSTREAM_AUTH] if _upstream_auth() else [])]
        if self._failed and self._failed != standing.file_error:
            problems.append(self._failed)
        standing.barred = "; ".join(problems)

    def _changed(self) -> None:
        """Another policy is in force."""
        if self._running:
            self._demand_lazy()
        guard = ctx.master.addons.get(EgressGuard.name)
        if guard:
            guard.is_current = self.management.service.is_current
            guard.cut_stale()

    def _demand_lazy(self) -> None:
        """A rule that needs the request cannot be decided at CONNECT, where eager connects."""
        needs_request = self.management.service.snapshot.needs_request
        if needs_request and ctx.options.connection_strategy == "eager":
            logger.info(
                "Egress policy: a rule needs the request, so connection_strategy is now lazy"
            )
            ctx.options.update(connection_strategy="lazy")

    def _fail(self, message: str) -> None:
        """What is asked for cannot be enforced: no start, or no change of a running policy."""
        if self._running:
            raise exceptions.OptionsError(message)
        logger.error(message)
        self._put_in_force()

    def _misstate(self, message: str) -> None:
        """An option that mitmproxy has dropped or never knew: what was meant cannot be told."""
        self._misstated.append(message)
        self._fail(message)


def _upstream_auth() -> str | None:
    """mitmproxy's option; a master without the addon of that name has none."""
    value: str | None = getattr(ctx.options, "upstream_auth", None)
    return value
