"""The upkeep of the policy in force: options that are taken, edits that come in, changes made here.

Edits of file and registry come in by themselves: they are read and made ready in a thread and
replace the snapshot whole. What cannot be read leaves the last good snapshot in force, says so, and
is tried again.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..collector import Collector
from ..errors import RegistryUnavailable
from ..log import get_logger
from ..model.rule import Policy
from ..registry.records import PolicyFileNames
from ..sentence import Sentence
from ..threads import Threads
from .file_source import FileContent, FileSource
from .in_force import Opened, PolicyInForce
from .opening import Opener
from .registry_source import RegistrySource
from .writes import PATIENCE, Writes

if TYPE_CHECKING:
    from ..registry.registry import Edit, Registry

logger = get_logger(__name__)

_NO_REGISTRY = "There is no registry: egress_registry is empty"
_UNTOUCHED = Collector()
_CLOSING = 1.0
"""Seconds that closing the registry is waited for."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A change of what is in force. The caller soon calls one of the two: ``undo`` restores what
    was before, ``settle`` lets go of it."""

    undo: Callable[[], None]
    settle: Callable[[], None]


class Upkeep:
    """Takes in what is opened and edited, and makes changes.

    ``opener`` opens what settings name.
    """

    def __init__(self, in_force: PolicyInForce, collector: Collector = _UNTOUCHED) -> None:
        self.in_force = in_force
        self.opener = Opener(in_force, self._file_at, collector)
        self._collector = collector
        self._loading = asyncio.Lock()
        """Held while the registry is read: an older state never replaces a newer one."""
        self._building = asyncio.Lock()
        """Held while the snapshot is made, which waits for nothing outside."""
        self._writes = Writes(self._catch_up)
        self._followed: RegistrySource | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._threads = Threads("egress-policy")
        self._running = False

    def _file_at(self, path: Path | None) -> FileSource:
        return FileSource(path, self.in_force.compile_filter, self._take_content, self._collector)

    # -- what was opened

    def discard(self, opened: Opened) -> None:
        """Let go of what was opened and is not taken."""
        self._close(opened.registry)

    def take(self, opened: Opened) -> Taken:
        """Put in force what was opened."""
        before, generation = self.in_force.opened, self.in_force.router.generation
        unchanged = opened.made.snapshot is before.made.snapshot and not opened.refuse_all_because
        self._hold(opened, generation if unchanged else None)

        def undo() -> None:
            rejected = self.in_force.opened
            self._hold(before, generation)
            self._let_go(rejected)

        def settle() -> None:
            self._let_go(before)
            if self._running:
                self._watch()
            if generation is not self.in_force.router.generation:
                self.in_force.on_change()

        return Taken(undo, settle)

    def _hold(self, opened: Opened, generation: object = None) -> None:
        self.in_force.hold(opened, generation)
        self._tell_registry()

    def _let_go(self, opened: Opened) -> None:
        if opened.file is not self.in_force.opened.file:
            opened.file.unwatch()
        self._close(opened.registry)

    def _close(self, source: RegistrySource | None) -> None:
        """Unless it is in use."""
        if source is not None and source is not self.in_force.opened.registry:
            source.close()

    def _tell_registry(self) -> None:
        """Which names belong to the policy file."""
        if registry := self.in_force.registry:
            file = self.in_force.file or Policy()
            registry.elsewhere = PolicyFileNames(
                frozenset(proxy.name for proxy in file.proxies),
                frozenset(pool.name for pool in file.pools),
                self.in_force.compile_filter,
            )

    # -- life cycle

    def start(self) -> None:
        """Watch file and registry, on the running loop."""
        self._running = True
        self._watch()

    def _watch(self) -> None:
        opened = self.in_force.opened
        opened.file.watch()
        source = opened.registry
        if source and source is not self._followed:
            following = source.follow(self._registry_seen, lambda: self._uses(source))
            self._spawn(following, "egress registry watch")
        self._followed = source

    def _uses(self, source: RegistrySource) -> bool:
        return source is self.in_force.opened.registry

    def stop(self) -> "asyncio.Task[None] | None":
        """Refuse everything, and let go of file and registry; the task ends when all is let go,
        or hangs. It may be opened again."""
        self._running = False
        opened = self.in_force.opened
        opened.file.unwatch()
        for task in self._tasks:
            task.cancel()
        tasks = [*self._tasks, self._writes.stop()]
        self._followed = None
        self.in_force.hold(self.in_force.unopened())
        self.in_force.on_change()
        closed = opened.registry.close() if opened.registry else None

        async def let_go() -> None:
            await asyncio.gather(*filter(None, tasks), return_exceptions=True)
            if closed:
                await asyncio.wait([asyncio.wrap_future(closed)], timeout=_CLOSING)

        try:
            return asyncio.get_running_loop().create_task(let_go(), name="egress registry close")
        except RuntimeError:  # no loop any more
            return None

    def _spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- changes made here

    async def change[T](
        self, make: "Callable[[Edit], T]", patience: float = PATIENCE, *, dry_run: bool = False
    ) -> T:
        """Let ``make`` change the registry, in a thread and in one transaction, which ``dry_run``
        undoes. When this returns, the change is in the database and in force. Raises the errors of
        the registry and of ``Writes.make``."""
        source = self.in_force.opened.registry
        if source is None:
            raise RegistryUnavailable(_NO_REGISTRY)

        def edit(registry: "Registry") -> T:
            with registry.edit(dry_run=dry_run) as changes:
                return make(changes)

        async def write() -> T:
            if not self._uses(source):
                raise RegistryUnavailable(
                    Sentence("registry_replaced", "The registry was replaced: nothing was changed")
                )
            return await source.call(edit, limited=False)  # ``Writes.make`` limits it

        with self._collector.while_editing():
            return await self._writes.make(write, patience)

    # -- edits that come in

    async def reload(self) -> str:
        """Read the policy file again. Returns what is wrong with it, empty if nothing is; the last
        good policy then stays in force."""
        source = self.in_force.opened.file
        if not await source.reload() and source.watcher:
            source.watcher.try_again()
        return self.in_force.file_error

    async def _take_content(self, source: FileSource, content: FileContent) -> None:
        in_force, made = self.in_force, None
        async with self._building:
            while True:
                if source is not in_force.opened.file:
                    return
                inputs = in_force.opened.inputs._replace(file=content.policy)
                if made and made.inputs.is_same(inputs):
                    break
                made = await self._threads.run(in_force.make, inputs)
            # Only now: later changes are never made of what could not be made.
            source.take(content)
            self._tell_registry()
            in_force.put(made)
        logger.info(f"Egress policy reloaded: {in_force.describe()}")

    async def _registry_seen(self, revision: int) -> None:
        source = self.in_force.opened.registry
        if source and (revision != source.state.revision or source.error or self.in_force.is_stale):
            await self._catch_up(revision)

    async def _catch_up(self, seen: int | None = None) -> None:
        """Take over what the registry holds now. ``seen`` is a revision it is known to have had: a
        revision that was taken over already is not read again."""
        source = self.in_force.opened.registry
        if source is None:
            return
        async with self._loading:
            with self._collector.while_editing():
                await self._take_over(source, seen)

    async def _take_over(self, source: RegistrySource, seen: int | None) -> None:
        if source.error or seen is None or seen != source.state.revision:
            seen = await source.call(lambda registry: registry.revision())
        if source.error or seen != source.state.revision:
            # A backup that was restored meanwhile counts its revisions anew: what is known by
            # an etag may be something else by now.
            known = None if source.error or seen < source.state.revision else source.state
            state = await source.call(lambda registry: registry.load(known))
            if not self._uses(source):
                return
            source.state = state
        await self._rebuild()

    async def _rebuild(self) -> None:
        """Make the snapshot anew, in a thread, until it has the newest content."""
        in_force = self.in_force
        async with self._building:
            while in_force.is_stale:
                in_force.put(await self._threads.run(in_force.make, in_force.opened.inputs))
