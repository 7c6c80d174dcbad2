"""Where a command asks: a mitmproxy that runs on the folder, or the registry and policy file.

A running mitmproxy has a policy of its own, so commands ask it and have it make changes. Reading
creates nothing.
"""

import asyncio
import functools
import inspect
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

import click

from ..errors import EgressError, InvalidEntry, NotFound
from ..model.settings import CONFDIR, parse_settings
from .colour import want
from .filters import compile_filter, request_for
from .hints import hint
from .output import warn

if TYPE_CHECKING:
    from ..management.registry_source import RegistryPlace
    from .running import Asked, Running

    type Work[A, T] = Callable[[A], Awaitable[T]]

_REGISTRY: Final = f"{CONFDIR}/egress.db"
_MEMORY: Final = ":memory:"
_AT_ONCE: Final = 1.0
_CONFDIR: Final = Path("~/.mitmproxy")


@dataclass(frozen=True, slots=True)
class Session:
    """Where things are, by the options of a command.

    ``default`` and ``dns`` are options of mitmproxy that a command was given to try out,
    ``patience`` is in seconds for an answer, where that is less than usual.
    """

    confdir: Path = _CONFDIR
    registry: str = _REGISTRY
    policy: Path | None = None
    json: bool = False
    default: str | None = None
    dns: tuple[str, ...] = ()
    patience: float = 0

    @property
    def folder(self) -> Path:
        """The folder. The default one may be missing.

        Raises ``InvalidEntry`` for any other folder that does not exist: it is mistyped.
        """
        folder = self.confdir.expanduser()
        if not folder.is_dir() and folder != _CONFDIR.expanduser():
            raise InvalidEntry(
                f"--confdir: {folder} is not a folder. Name the folder of a mitmproxy; "
                f"`mitmdump --set confdir={folder}` makes it when it starts",
                "confdir",
            )
        return folder

    @overload
    def read[T](self, work: "Work[Asked, T]") -> T: ...
    @overload
    def read[T](self, work: "Callable[[Asked], T]") -> T: ...

    def read(self, work: "Callable[[Asked], Any]") -> Any:
        """Ask the mitmproxy that runs, otherwise the registry and policy file, and say on stderr
        which it was. Raises ``EgressError``."""
        return self._ask(work, self._to_read)

    def write(self, work: "Callable[[Asked], Any]") -> Any:
        """Have the mitmproxy that runs do it, otherwise open the registry, which is made where
        there is none. Raises ``EgressError``."""
        return self._ask(work, lambda: self.registry)

    def ask_running[T](self, work: "Callable[[Running], T]") -> T:
        """Ask the mitmproxy that runs. Raises ``EgressError``, also where none does."""
        if (running := self._running()) is None:
            raise NotFound(
                f"No mitmproxy with the egress policy runs on {self.confdir}. Start one "
                "(`make run`, or mitmdump with the script that `egress-policy script` names), or "
                "name its folder with --confdir"
            )
        warn(running.about)
        return work(running)

    def try_out(self, work: "Callable[[Asked], Any]") -> Any:
        """Do work that keeps nothing: where there is no registry, in memory."""
        return self._ask(work, self._to_try)

    def _ask(self, work: "Callable[[Asked], Any]", find_registry: Callable[[], str]) -> Any:
        if running := self._running():
            warn(running.about)
            return asyncio.run(_done(work, running))
        return asyncio.run(self._alone(find_registry(), work))

    @property
    def _is_hypothetical(self) -> bool:
        """Whether options name a policy or registry: a running mitmproxy has its own."""
        return bool(self.registry != _REGISTRY or self.policy or self.default or self.dns)

    def _running(self) -> "Running | None":
        from .running import find_running

        folder = self.folder
        if self._is_hypothetical:
            return None
        return find_running(folder, *([self.patience] if self.patience else []))

    def _find_registry(self) -> "RegistryPlace":
        from ..management.registry_source import find_registry

        return find_registry(self.registry, self.folder, os.environ)

    def _to_try(self) -> str:
        place = self._find_registry()
        return place.location if place.exists else _MEMORY

    def _to_read(self) -> str:
        """The registry to open for reading, empty for none; stderr says which it is."""
        about = "asked without mitmproxy" if self._is_hypothetical else "no mitmproxy is running"
        place = self._find_registry()
        policy = f"policy file {self.policy}" if self.policy else ""
        if place.exists:
            alone = f"registry alone ({place.name})"
            warn(f"{about}: {f'{policy}, registry {place.name}' if policy else alone}")
            return place.location
        if not place.location:
            warn(f"{about}: {policy or 'no policy file and no registry'}")
            return ""
        missing = f"there is no registry {place.name} yet"
        makes = (
            "mitmproxy makes it when it starts, and so does a command that writes (`proxies add`)"
        )
        if self.registry != _REGISTRY or not (policy or self.folder.is_dir()):
            raise InvalidEntry(f"{missing[0].upper()}{missing[1:]}: {makes}", "registry")
        warn(f"{about}: {f'{policy} alone, {missing}' if policy else f'{missing}; {makes}'}")
        return ""

    async def _alone(self, registry: str, work: Callable[[Any], Any]) -> Any:
        """Open registry and policy file, do the work, and let go of them."""
        # Only here: a command that needs no policy answers at once.
        from ..management.management import Management

        management = Management(compile_filter, request_for)
        values = {
            "egress_registry": registry,
            "egress_policy": str(self.policy or ""),
            "egress_default": self.default or "direct",
            "egress_listen": "",
            "egress_dns": self.dns,
        }
        # A registry that is not kept needs no key that is.
        key = {"EGRESS_KEY": secrets.token_urlsafe()} if registry == _MEMORY else {}
        folder, environ = self.folder, {**os.environ, **key}
        try:
            settings = parse_settings(values, environ, folder)
            management.configure(settings, folder, environ)
            await management.recall()
            return await _done(work, management)
        finally:
            if closing := management.stop():
                await closing


async def _done(work: Callable[[Any], Any], asked: "Asked") -> Any:
    try:
        answer = work(asked)
        return await answer if inspect.isawaitable(answer) else answer
    except EgressError as error:
        hint(error, asked)
        raise


def with_session(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of a ``Session``, which becomes its first argument."""

    @functools.wraps(command)
    def run(
        *,
        confdir: Path,
        registry: str,
        policy: Path | None,
        json: bool,
        color: bool | None,
        **given: Any,
    ) -> int:
        want(False if json else color)
        asked = {name: given.pop(name) for name in ("default", "dns") if name in given}
        return command(Session(confdir, registry, policy, json, **asked), **given)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


_OPTIONS = (
    click.option(
        "--confdir", type=click.Path(path_type=Path), default=_CONFDIR, metavar="DIR",
        show_default=True, help="mitmproxy's folder",
    ),
    click.option(
        "--registry", default=_REGISTRY, metavar="PLACE", show_default=True,
        help="registry: a file or a database URL; empty for none",
    ),
    click.option(
        "--policy", type=click.Path(path_type=Path), metavar="FILE",
        help="policy file beside it; asks no mitmproxy",
    ),
    click.option("--json", is_flag=True, help="answer in JSON, errors too"),
    click.option("--color/--no-color", default=None,
                 help="colours; without it, on a terminal unless NO_COLOR is set"),
)  # fmt: skip


def session_of(params: Mapping[str, Any]) -> Session:
    """The session of a command line that is still being typed, for a shell that waits."""
    names = ("confdir", "registry", "policy", "default", "dns")
    given = {name: params[name] for name in names if params.get(name) is not None}
    return Session(**given, patience=_AT_ONCE)
