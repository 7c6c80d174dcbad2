"""Writes what machines observe into the registry, beside the policy and never in the way of a flow.

Rows wait for a moment, so that many of them are one transaction. A registry that fails costs the
rows that it was to take, which are counted, and nothing else. Where there is no registry nothing is
kept, and nothing is lost.
"""

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import EgressError
from ..log import get_logger
from ..model.proxy import Proxy
from .in_force import PolicyInForce

if TYPE_CHECKING:
    from ..registry.registry import Registry

logger = get_logger(__name__)

Rows = Sequence[Mapping[str, Any]]
Verb = Literal["add_events", "add_observations", "put_tests", "put_fetches"]

PAUSE: Final = 1.0
"""Seconds for which rows wait for others."""
WAITING: Final = 10_000
"""Rows of a kind that may wait; where more come the oldest are lost."""


def fingerprint(proxy: Proxy) -> str:
    """What a proxy is, without its credentials. It is the same in every process and on every node,
    and differs where another machine may answer."""
    parts = (proxy.name, proxy.type, proxy.host, str(proxy.port), proxy.family)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class JournalWriter:
    """For one event loop. Adding never waits and never raises. Rows are those of
    ``registry/journal.py``; ``lost`` counts those that could not be kept."""

    def __init__(self, in_force: PolicyInForce, pause: float = PAUSE) -> None:
        self.lost = 0
        self._in_force = in_force
        self._pause = pause
        self._waiting: dict[Verb, deque[Mapping[str, Any]]] = {}
        self._writing: asyncio.Task[None] | None = None
        self._is_failing = False

    # -- adding

    def add_events(self, rows: Rows) -> None:
        self._add("add_events", rows)

    def add_observations(self, rows: Rows) -> None:
        self._add("add_observations", rows)

    def put_tests(self, rows: Rows) -> None:
        self._add("put_tests", rows)

    def put_fetches(self, rows: Rows) -> None:
        self._add("put_fetches", rows)

    async def flush(self) -> None:
        """Write what waits, now."""
        done = [await self._write(verb) for verb in tuple(self._waiting)]
        if done and all(done):
            self._is_failing = False

    def stop(self) -> None:
        """Begin to write what waits, and end. The registry closes only after that."""
        if self._writing:
            self._writing.cancel()
        waiting, self._waiting = self._waiting, {}
        if source := self._in_force.opened.registry:
            for verb, rows in waiting.items():
                source.begin(_adding(verb, rows))

    # -- reading: what other runs and nodes wrote too; nothing while there is no registry

    async def events(self) -> list[dict[str, Any]]:
        return await self._read(lambda registry: registry.journal.events())

    async def observations(self) -> list[dict[str, Any]]:
        return await self._read(lambda registry: registry.journal.observations())

    async def tests(self) -> list[dict[str, Any]]:
        return await self._read(lambda registry: registry.journal.tests())

    async def fetches(self) -> list[dict[str, Any]]:
        return await self._read(lambda registry: registry.journal.fetches())

    async def _read(
        self, ask: "Callable[[Registry], list[dict[str, Any]]]"
    ) -> list[dict[str, Any]]:
        source = self._in_force.opened.registry
        if source is None:
            return []
        try:
            return await source.call(ask)
        except EgressError as error:
            self._tell(error)
            return []

    # -- writing

    def _add(self, verb: Verb, rows: Rows) -> None:
        if self._in_force.opened.registry is None:
            return
        waiting = self._waiting.setdefault(verb, deque(maxlen=WAITING))
        self.lost += max(0, len(waiting) + len(rows) - WAITING)
        waiting.extend(rows)
        if self._writing is None and rows:
            self._writing = asyncio.create_task(self._write_soon(), name="egress journal")

    async def _write_soon(self) -> None:
        try:
            while any(self._waiting.values()):
                await asyncio.sleep(self._pause)
                await self.flush()
        finally:
            self._writing = None

    async def _write(self, verb: Verb) -> bool:
        """Whether nothing was lost."""
        rows = self._waiting.pop(verb, ())
        source = self._in_force.opened.registry
        if not rows or source is None:
            return True
        try:
            await source.call(_adding(verb, rows))
        except Exception as error:  # noqa: BLE001 (rows are lost, nothing else)
            self.lost += len(rows)
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        """Log what fails once, until it works again."""
        if not self._is_failing:
            logger.warning(f"Egress: events and observations cannot be kept or read: {error}")
        self._is_failing = True


def _adding(verb: Verb, rows: Iterable[Mapping[str, Any]]) -> "Callable[[Registry], None]":
    def add(registry: "Registry") -> None:
        getattr(registry.journal, verb)(list(rows))

    return add
