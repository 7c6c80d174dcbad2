"""The registry: the database, and what it held when it was read last."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..registry.errors import RegistryDown
from ..registry.records import RegistryState
from .threads import Threads, TooManyHang

if TYPE_CHECKING:
    from ..registry.registry import Registry


PATIENCE: Final = 15.0
"""Seconds for one call. What waits for the database itself waits less."""


class RegistrySource:
    """An open registry; ``error`` says why the database cannot be read just now."""

    def __init__(self, location: str, registry: "Registry", state: RegistryState) -> None:
        self.location = location
        self.registry = registry
        self.state = state
        self.error = ""
        self.threads = Threads("egress-registry")

    def close(self) -> Future[None]:
        """Let go of it, behind what is under way."""
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

    @classmethod
    def open(
        cls, location: str, confdir: Path, environ: Mapping[str, str]
    ) -> "RegistrySource | None":
        """Open what the option ``egress_registry`` names, ``None`` for an empty ``location``.

        Raises ``InvalidEntry`` and ``RegistryUnavailable``.
        """
        if not location:
            return None
        # Only here: who has no registry needs no database to start.
        from ..registry.engines import SILENCE_AT_START
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
