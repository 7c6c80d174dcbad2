"""Options and life cycle: puts in force what the options ask for, or says why it cannot.

Everything is refused until all options have been read, and whenever one of them cannot be enforced.
Before mitmproxy runs that is logged as an ERROR, which ends it with exit status 1. Afterwards a
change of options is applied whole or not at all, and a broken edit keeps the last good policy.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mitmproxy import addonmanager, connection, ctx, exceptions
from mitmproxy.addonmanager import Loader

from ...errors import EgressError, InvalidEntry
from ...log import get_logger
from ...management.management import Management
from ...management.upkeep import Taken
from ...model.settings import OPTIONS, parse_settings
from ...threads import Executor
from ...version import VERSION
from .. import seams
from .api import EgressApi
from .guard import EgressGuard, by_hand, stand_guard
from .named import Named, find

logger = get_logger(__name__)

UPSTREAM_AUTH = (
    "upstream_auth cannot be used with the egress policy: it is one secret for every upstream. "
    "Give the proxy its own username and password in the policy file, and a rule that uses it."
)
TWICE = (
    "The egress policy is already loaded in this mitmproxy, and the first copy stays in force. "
    "Load it once: by one -s, or by default_addons()."
)
_HELP = {option.name: option.help for option in OPTIONS}
_NAMES = frozenset({*_HELP, "upstream_auth", "confdir"})
"""All options that decide what is in force."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """Values of the options, and why they cannot be enforced; empty if they can."""

    values: dict[str, object]
    failure: str


@dataclass(frozen=True, slots=True)
class _Step:
    """A change of options that can still be taken back: mitmproxy does if another addon rejects
    it, within the same call."""

    before: _Judged | None
    parts: tuple[Taken, ...]


class Part(Protocol):
    """Something that lives while mitmproxy runs, may have commands, and takes no event of a flow.

    mitmproxy takes each event of a flow past each addon, which costs more than most handlers do.
    """

    def running(self) -> None: ...
    def done(self) -> None: ...


class EgressConfig(Named):
    """Declares the options, and keeps what they ask for in force."""

    def __init__(
        self, management: Management, api: EgressApi, *, owns_process: bool = False
    ) -> None:
        self.management = management
        management.in_force.on_change = self._changed
        management.known_exits.on_mismatch = _cut_mismatches
        self.parts: tuple[Part, ...] = ()
        """They run while this does, in this order."""
        self._api = api
        self._owns_process = owns_process
        self._misstated: dict[str, str] = {}
        self._judged: _Judged | None = None
        self._steps: list[_Step] = []
        self._judging = False
        self._running = False
        self._demanding = False

    @property
    def name(self) -> str:
        """Raises ``AddonManagerError`` if another policy is loaded: both would decide about the
        same flows, and mitmproxy's own message does not say what to do."""
        if loaded() not in (None, self):
            raise exceptions.AddonManagerError(TWICE)
        return super().name

    def load(self, loader: Loader) -> None:
        guard = stand_guard()
        if guard.closed:
            raise RuntimeError(guard.closed)
        if self._owns_process:
            # mitmproxy looks names up that are not pinned, which may hang.
            ctx.master.event_loop.set_default_executor(Executor("egress-executor"))
        router = self.management.router
        guard.is_current = router.is_current
        guard.mismatch_on = self.management.known_exits.mismatch_on
        guard.enter, guard.leave = router.standing.enter, router.standing.leave
        try:
            for option in OPTIONS:
                loader.add_option(option.name, option.type, option.default, option.help)
        except exceptions.OptionsError as error:  # by another addon; mitmproxy would log nothing
            raise RuntimeError(f"The egress options cannot be declared: {error}") from error
        # Also values of other addons: they would keep mitmproxy from loading this one.
        for name, message in seams.drop_bad_deferred(ctx.options, ctx.options.keys()).items():
            text = f"Bad value for {name}: {message}"
            if name in _HELP:
                self._misstate(name, f"{text}. {_HELP[name]}")
            else:
                logger.error(text)
        try:
            ctx.options.process_deferred()
        except exceptions.OptionsError as error:  # mitmproxy is next, and would log nothing
            raise RuntimeError(f"Another addon rejects these options: {error}") from error
        for part in self.parts:
            ctx.master.commands.collect_commands(part)

    def configure(self, updated: set[str]) -> None:
        self._look_for_unknown()
        if not self._judging and (self._judged is None or updated & _NAMES):
            self._judge()
        if "connection_strategy" in updated:
            self._demand_lazy(self.management.router.snapshot.needs_request)

    def running(self) -> None:
        self._look_for_unknown()
        if self._judged is None:  # added to a master that is already set up
            self._judge()
        self._settle()
        self._running = True
        self.management.start()
        if not self.management.in_force.problem:
            logger.info(self.describe())
        for part in self.parts:
            with addonmanager.safecall():  # an error is logged, and the other parts run
                part.running()

    def client_connected(self, client: connection.Client) -> None:  # noqa: ARG002
        """mitmproxy listens before it calls ``running``."""
        if not self._running:
            self._look_for_unknown()

    def done(self) -> asyncio.Task[None] | None:
        self._settle()
        self._running = False
        self._misstated.clear()  # this object may be added again
        self._judged = None
        stopped = self.management.stop()
        for part in self.parts:
            with addonmanager.safecall():
                part.done()
        return stopped

    def cut(self, name: str = "") -> int:
        """Cut the live connections of an egress, or all there are; how many."""
        guard = find(EgressGuard)
        if guard is None:
            return 0
        return guard.cut(lambda route: name in ("", route.egress.name), "command", by_hand)

    def describe(self) -> str:
        """One line: version, and what is in force."""
        return f"egress policy {VERSION}: {self.management.in_force.describe()}"

    # -- options, taken whole or not at all

    def _judge(self) -> None:
        """Put in force what the options ask for, unless it is."""
        values = {name: getattr(ctx.options, name) for name in _NAMES if name in ctx.options}
        if self._judged and values == self._judged.values:
            return  # mitmproxy has restored the values after a rejection
        if self._undo_to(values):
            return
        self._judging = True  # this may change another option and call configure again
        try:
            parts = self._take(values)
        except Exception as error:
            text = str(error) if isinstance(error, EgressError) else f"Egress policy: {error!r}"
            logger.debug("The options cannot be put in force", exc_info=True)
            if self._running:
                raise exceptions.OptionsError(text) from error
            self._refuse(values, text)
            return
        finally:
            self._judging = False
        self._steps.append(_Step(self._judged, parts))
        self._judged = _Judged(values, "")
        if len(self._steps) == 1:
            self._settle_soon()

    def _take(self, values: dict[str, object]) -> tuple[Taken, Taken]:
        """Open everything first, so that nothing can fail when it is put in force."""
        if values.get("upstream_auth"):
            raise InvalidEntry(UPSTREAM_AUTH, "upstream_auth")
        management, confdir = self.management, Path(ctx.options.confdir).expanduser()
        given = {name: value for name, value in values.items() if name in _HELP}
        settings = parse_settings(given, os.environ, confdir)
        starting, misstated = not self._running, len(self._misstated)
        prepared = management.open(
            settings,
            confdir,
            os.environ,
            mended_later=starting,
            refuse_all_because="; ".join(self._misstated.values()),
        )
        try:
            self._demand_lazy(prepared.opened.made.snapshot.needs_request)
            listener = self._api.open(settings)
        except BaseException:
            management.discard(prepared)
            raise
        file = prepared.opened.file
        if starting and file.policy is None:
            logger.error(file.error)
        taken = management.take(prepared), listener
        if len(self._misstated) > misstated:  # found by an addon that the demand made configure
            self._bar()
        return taken

    def _undo_to(self, values: dict[str, object]) -> bool:
        """Take back the changes since these values were in force, if there are any to take back."""
        for index, step in enumerate(self._steps):
            if step.before and step.before.values == values:
                for undone in reversed(self._steps[index:]):
                    for part in reversed(undone.parts):
                        part.undo()
                del self._steps[index:]
                self._judged = step.before
                if self._misstated:  # found after what is restored was put in force
                    self._bar()
                return True
        return False

    def _settle_soon(self) -> None:
        """Settle when mitmproxy has asked all addons, which takes one turn of the loop."""
        try:
            asyncio.get_running_loop().call_soon(self._settle)
        except RuntimeError:  # no loop
            self._settle()

    def _settle(self) -> None:
        steps, self._steps = self._steps, []
        for part in [part for step in steps for part in step.parts]:
            try:
                part.settle()
            except Exception:  # the other parts must let go too
                logger.exception("Egress: what was in force before cannot be let go of")

    def _refuse(self, values: dict[str, object], why: str) -> None:
        """Before mitmproxy runs: refuse everything and end mitmproxy."""
        self._judged = _Judged(values, why)
        self._bar()
        logger.error(why)

    def _look_for_unknown(self) -> None:
        """mitmproxy keeps the values of options that no addon has declared yet. Only this addon
        declares options that begin with ``egress_``."""
        for name in tuple(ctx.options.deferred):
            if name.startswith("egress_") and name not in _HELP and name not in self._misstated:
                known = ", ".join(_HELP)
                self._misstate(name, f"Unknown option {name}. The egress options are: {known}")

    def _misstate(self, name: str, message: str) -> None:
        """Refuse everything: mitmproxy dropped or never knew the option; its meaning is lost."""
        self._misstated[name] = message
        self._bar()
        logger.error(message)

    def _bar(self) -> None:
        failure = [self._judged.failure] if self._judged and self._judged.failure else []
        self.management.in_force.refuse_all("; ".join([*self._misstated.values(), *failure]))

    # -- what is in force

    def _changed(self) -> None:
        """Another policy is in force."""
        if guard := find(EgressGuard):
            guard.cut_stale()
        try:
            self._demand_lazy(self.management.router.snapshot.needs_request)
        except exceptions.OptionsError as error:
            # The policy still holds: what would connect eagerly is refused.
            logger.error(f"Another addon keeps connection_strategy from being lazy: {error}")  # noqa: TRY400

    def _demand_lazy(self, needs_request: bool) -> None:
        """A rule that needs the request cannot be decided at CONNECT, where eager connects."""
        if needs_request and ctx.options.connection_strategy == "eager" and not self._demanding:
            logger.info(
                "Egress policy: a rule needs the request, so connection_strategy is now lazy"
            )
            self._demanding = True  # mitmproxy calls configure again if another addon rejects it
            try:
                ctx.options.update(connection_strategy="lazy")
            finally:
                self._demanding = False


def _cut_mismatches() -> None:
    if guard := find(EgressGuard):
        guard.cut_mismatches()


def loaded() -> EgressConfig | None:
    """The policy that is already loaded in the running mitmproxy."""
    return find(EgressConfig) if getattr(ctx, "master", None) else None
