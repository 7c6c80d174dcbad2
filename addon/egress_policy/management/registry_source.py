"""The registry: the database, and what it held when it was read last."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import InvalidEntry, RegistryDown, RegistryUnavailable
from ..log import get_logger
from ..model.settings import parse_settings
from ..registry.records import RegistryState
from ..requirements import what_to_install
from ..threads import Threads, TooManyHang

if TYPE_CHECKING:
    from ..registry.registry import Registry

logger = get_logger(__name__)

_POLL: Final = 1.0
"""Seconds that one wait for a change of the registry lasts at most."""
PATIENCE: Final = 15.0
"""Seconds for one call; the database itself is waited for less."""


class RegistrySource:
    """An open registry; ``error`` says why the database cannot be read just now."""

    def __init__(self, location: str, registry: "Registry", state: RegistryState) -> None:
        self.location = location
        self.registry = registry
        self.state = state
        self.error = ""
        self.threads = Threads("egress-registry")

    def close(self) -> Future[None]:
        """Close it after the calls that are running."""
        self.registry.end_waits()
        return self.threads.finish(self.registry.close)

    async def call[T](self, function: "Callable[[Registry], T]", *, limited: bool = True) -> T:
        """Call it with the registry, in a thread. Raises what it raises, and ``RegistryDown`` if it
        is ``limited`` and takes longer than ``PATIENCE``."""
        seconds = PATIENCE if limited else None
        try:
            async with asyncio.timeout(seconds):
                return await self.threads.run(function, self.registry)
        except TimeoutError:
            why = f"it has not answered for {seconds:g} s"
        except TooManyHang as error:
            why = str(error)
        raise RegistryDown(f"The registry {self.registry.name} cannot be used: {why}")

    def begin[T](self, function: "Callable[[Registry], T]") -> Future[T]:
        """Call it with the registry, in a thread that ``close`` waits for. Returns at once."""
        return self.threads.begin(lambda: function(self.registry))

    async def follow(
        self, seen: Callable[[int], Awaitable[None]], is_current: Callable[[], bool]
    ) -> None:
        """Call ``seen`` with the current revision, again and again: other processes and nodes
        change the registry too. ``error`` says what is wrong meanwhile."""
        while is_current():
            try:
                revision = await self.call(
                    lambda registry: registry.wait(self.state.revision, _POLL)
                )
                if is_current():
                    await seen(revision)
            except RegistryUnavailable as error:
                if not self.error:
                    kept = "its last state stays in force"
                    logger.warning(f"The egress registry cannot be read, {kept}: {error}")
                self.error = str(error)
                await asyncio.sleep(_POLL)
            except Exception as error:  # one bad state must not end the watch
                if repr(error) != self.error:
                    logger.exception("The change of the egress registry could not be handled")
                self.error = repr(error)
                await asyncio.sleep(_POLL)
            else:
                if self.error:
                    logger.info("The egress registry can be read again")
                self.error = ""

    @classmethod
    def open(
        cls, location: str, confdir: Path, environ: Mapping[str, str]
    ) -> "RegistrySource | None":
        """Open the registry at a ``location``; ``None`` for an empty one.

        Raises ``InvalidEntry`` and ``RegistryUnavailable``.
        """
        if not location:
            return None
        try:
            return cls._open(location, confdir, environ)
        except RegistryUnavailable as error:
            raise RegistryUnavailable(f"egress_registry: {error}") from error
        except ImportError as error:
            if not (sentence := what_to_install(error)):
                raise
            what = f"egress_registry: {sentence}; or leave it empty to do without a registry"
            raise RegistryUnavailable(what) from error

    @classmethod
    def _open(cls, location: str, confdir: Path, environ: Mapping[str, str]) -> "RegistrySource":
        # Only here: without a registry no database is needed to start.
        from ..registry.limits import SILENCE_AT_START
        from ..registry.registry import Registry
        from ..registry.secrets import load_key

        key = load_key(confdir, environ)
        registry = Registry.open(location, key, silence=SILENCE_AT_START)
        try:
            source = cls(location, registry, registry.load())
        except BaseException:
            registry.close()
            raise
        registry.wait_longer()
        return source


class RegistryPlace(NamedTuple):
    """Where a registry belongs. ``location`` is empty for none; ``name`` is the location without
    user and password; ``exists`` tells whether a registry has been made there."""

    location: str
    name: str
    exists: bool


def find_registry(option: str, confdir: Path, environ: Mapping[str, str]) -> RegistryPlace:
    """The registry that a value of the option ``egress_registry`` names. Makes nothing.

    Raises ``InvalidEntry`` and ``RegistryUnavailable`` for one that cannot be opened, also where
    its key is missing.
    """
    from ..registry.engines import describe_location, parse_location
    from ..registry.registry import Registry
    from ..registry.secrets import KEY_FILE, KEY_VARIABLE, has_key

    location = parse_settings({"egress_registry": option}, environ, confdir).registry
    if not location:
        return RegistryPlace("", "", exists=False)
    in_memory = location == ":memory:"
    exists = in_memory or Registry.exists(location)
    if exists and not in_memory and not has_key(confdir, environ):
        raise InvalidEntry(
            f"The key of the registry is missing: {confdir / KEY_FILE} does not exist. Put it "
            f"there, or give it in {KEY_VARIABLE}",
            "egress-key",
        )
    return RegistryPlace(location, describe_location(parse_location(location)), exists)
