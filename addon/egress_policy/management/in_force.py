"""The policy as it stands: file and registry, made into the snapshot that the router decides by.

What the options name is opened first, all of it, and then taken, which cannot fail and can be
undone until it is settled. From then on edits of file and registry come in by themselves: they are
read and made ready in a thread and replace the snapshot whole. What cannot be read leaves the last
good snapshot in force, says so, and is tried again.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..collector import Collector
from ..errors import PolicyFileError, RegistryUnavailable
from ..log import get_logger
from ..model.rule import Default, Filter, FilterCompiler, Policy
from ..model.settings import Settings
from ..model.words import count
from ..policy.snapshot import Snapshot, build_snapshot
from ..registry.records import PolicyFileNames, RegistryState
from ..router import EgressRouter
from ..threads import Threads
from .file_source import FileContent, FileSource
from .merge import Merged, merge
from .registry_source import RegistrySource
from .writes import PATIENCE, Writes

if TYPE_CHECKING:
    from ..registry.registry import Edit, Registry

logger = get_logger(__name__)

CLOSED = Policy(default="refuse")
"""The policy of who has none: refuse everything."""
UNCONFIGURED = "the egress policy is not configured"
NO_REGISTRY = "There is no registry: egress_registry is empty"
_UNTOUCHED = Collector()
_FILTERS_KEPT = 20_000
_CLOSING = 1.0
"""Seconds that closing the registry is waited for."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What settings name, open and read, and the policy that it makes. Not in force yet."""

    file: FileSource
    registry: RegistrySource | None
    socks5: bool
    default: Default
    policy: Policy
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Taken:
    """A change of what is in force. Exactly one of these is called, before anything else runs or
    soon after: ``undo`` puts everything back as it was, ``settle`` lets go of what was before."""

    undo: Callable[[], None]
    settle: Callable[[], None]


class _Held(NamedTuple):
    """All that a change of the settings changes."""

    file: FileSource
    registry: RegistrySource | None
    socks5: bool
    default: Default
    policy: Policy
    refuse_all_because: str
    snapshot: Snapshot
    generation: object
    stale: bool
    """Whether something below the snapshot has changed since it was made."""


class PolicyInForce:
    """Owns the snapshot of ``router``.

    ``refuse_all_because`` is why everything is to be refused, whatever the policy says; whoever
    configures sets it. ``file_error`` and ``registry_error`` say what is wrong with the last edit
    or with the database, while the last good policy stays in force.
    """

    def __init__(
        self,
        router: EgressRouter,
        compile_filter: FilterCompiler,
        on_change: Callable[[], None] = lambda: None,
        collector: Collector = _UNTOUCHED,
    ) -> None:
        self.router = router
        self.on_change = on_change
        self._collector = collector
        self.compile_filter: FilterCompiler = functools.lru_cache(_FILTERS_KEPT)(compile_filter)
        self.file_source = self._file_at(None)
        self.registry_source: RegistrySource | None = None
        self.policy = CLOSED
        self.refuse_all_because = UNCONFIGURED
        self.socks5 = True
        self.default: Default = "refuse"
        self._version = 0
        """Counts what changes below the snapshot; ``_made`` is the one it was made of."""
        self._made = 0
        self._loading = asyncio.Lock()
        """Whoever has it reads the registry: an older state never replaces a newer one."""
        self._building = asyncio.Lock()
        """Whoever has it makes the snapshot, and waits for nothing outside."""
        self._writes = Writes(self._catch_up)
        self._followed: RegistrySource | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._threads = Threads("egress-policy")
        self._running = False

    @property
    def snapshot(self) -> Snapshot:
        return self.router.snapshot

    @property
    def _is_stale(self) -> bool:
        return self._made != self._version

    @property
    def file(self) -> Policy | None:
        """The last good content of the policy file, ``None`` where there never was any."""
        return self.file_source.policy

    @property
    def file_path(self) -> Path | None:
        return self.file_source.path

    @property
    def file_error(self) -> str:
        return self.file_source.error

    @property
    def registry(self) -> "Registry | None":
        return self.registry_source.registry if self.registry_source else None

    @property
    def state(self) -> RegistryState | None:
        """What the registry held when it was read last."""
        return self.registry_source.state if self.registry_source else None

    @property
    def registry_error(self) -> str:
        return self.registry_source.error if self.registry_source else ""

    @property
    def problem(self) -> str:
        """Why everything is refused; empty if the policy is in force."""
        return self.refuse_all_because or (self.file_error if self.file is None else "")

    @property
    def default_from(self) -> Literal["policy file", "registry", "option"]:
        """Who says what a flow takes that no rule matches."""
        if self.file and self.file.default:
            return "policy file"
        return "registry" if self.policy.default and not self.problem else "option"

    def describe(self) -> str:
        """One line: policy file, registry, how much is in them, and the default."""
        snapshot = self.snapshot
        registry = f", registry {self.registry.name}" if self.registry else ""
        return (
            f"{self.file_path or 'no policy file'}{registry}, "
            f"{count(len(snapshot.proxies), 'proxy', 'proxies')}, "
            f"{count(len(snapshot.rules), 'rule', 'rules')}, default {snapshot.default}"
        )

    # -- opening

    def open(
        self,
        settings: Settings,
        confdir: Path,
        environ: Mapping[str, str],
        *,
        mended_later: bool = False,
    ) -> Opened:
        """Open and read what ``settings`` name. Nothing of it is in force, and what is stays.

        Raises ``PolicyFileError``, ``InvalidEntry`` and ``RegistryUnavailable``: then nothing is
        left open. With ``mended_later`` a policy file that cannot be used is taken too, and
        everything is refused until it is mended.
        """
        registry = self.registry_source
        now = self.file_source.path, registry.location if registry else ""
        if now == (settings.policy, settings.registry):
            return self._open(settings, confdir, environ, mended_later=mended_later)
        with self._collector.while_opening():
            return self._open(settings, confdir, environ, mended_later=mended_later)

    def _open(
        self, settings: Settings, confdir: Path, environ: Mapping[str, str], *, mended_later: bool
    ) -> Opened:
        file = self._open_file(settings.policy, mended_later=mended_later)
        registry = self.registry_source
        if settings.registry != (registry.location if registry else ""):
            registry = RegistrySource.open(settings.registry, confdir, environ)
        try:
            return self._opened(file, registry, settings)
        except BaseException:
            self._close(registry)
            raise

    def _open_file(self, path: Path | None, *, mended_later: bool) -> FileSource:
        if path == self.file_source.path:
            return self.file_source
        file = self._file_at(path)
        try:
            file.open()
        except PolicyFileError:
            if not mended_later:
                raise
        return file

    def _file_at(self, path: Path | None) -> FileSource:
        return FileSource(path, self.compile_filter, self._take_content, self._collector)

    def _opened(
        self, file: FileSource, registry: RegistrySource | None, settings: Settings
    ) -> Opened:
        socks5, default = settings.socks5, settings.default
        now = (self.file_source, self.registry_source, self.socks5, self.default)
        if now == (file, registry, socks5, default) and not (
            self.refuse_all_because or self._is_stale
        ):
            return Opened(*now, self.policy, self.snapshot)
        if file.policy is None:
            return Opened(file, registry, socks5, default, CLOSED, closed_snapshot())
        state = registry.state if registry else None
        merged, snapshot = self._make(file.policy, state, socks5, default)
        return Opened(file, registry, socks5, default, merged.policy, snapshot)

    def discard(self, opened: Opened) -> None:
        """Let go of what was opened and is not taken."""
        self._close(opened.registry)

    def take(self, opened: Opened, refuse_all_because: str = "") -> Taken:
        """Put in force what was opened, or with ``refuse_all_because`` refuse everything."""
        before, snapshot, policy = self._held(), opened.snapshot, opened.policy
        if refuse_all_because:
            snapshot, policy = closed_snapshot(), CLOSED
        generation = before.generation if snapshot is before.snapshot else object()
        self._hold(
            _Held(
                opened.file,
                opened.registry,
                opened.socks5,
                opened.default,
                policy,
                refuse_all_because,
                snapshot,
                generation,
                stale=False,
            )
        )
        return Taken(lambda: self._undo(before), lambda: self._settle(before))

    def _held(self) -> _Held:
        return _Held(
            self.file_source,
            self.registry_source,
            self.socks5,
            self.default,
            self.policy,
            self.refuse_all_because,
            self.snapshot,
            self.router.generation,
            self._is_stale,
        )

    def _hold(self, held: _Held) -> None:
        self.file_source, self.registry_source, self.socks5, self.default = held[:4]
        self.policy, self.refuse_all_because = held.policy, held.refuse_all_because
        self.router.snapshot = held.snapshot
        self.router.generation = held.generation
        self._version += 1
        self._made = -1 if held.stale else self._version
        self._file_taken()

    def _undo(self, before: _Held) -> None:
        rejected = self._held()
        self._hold(before)
        self._let_go(rejected)

    def _settle(self, before: _Held) -> None:
        self._let_go(before)
        if self._running:
            self._watch()
        _tell_warnings(self.snapshot, before.snapshot)
        if before.generation is not self.router.generation:
            self.on_change()

    def _let_go(self, held: _Held) -> None:
        if held.file is not self.file_source:
            held.file.unwatch()
        self._close(held.registry)

    def _close(self, source: RegistrySource | None) -> None:
        """Unless it is the one in use."""
        if source is not None and source is not self.registry_source:
            source.close()

    def put_in_force(self) -> None:
        """Make the snapshot of what is there, now."""
        self._version += 1
        if self.problem or self.file is None:
            self._made = self._version
            self.policy = CLOSED
            self._replace(closed_snapshot())
        else:
            self._take(*self._make(self.file, self.state, self.socks5, self.default))

    def start(self) -> None:
        """Watch file and registry, on the running loop."""
        self._running = True
        self._watch()

    def _watch(self) -> None:
        self.file_source.watch()
        source = self.registry_source
        if source and source is not self._followed:
            following = source.follow(self._registry_seen, lambda: source is self.registry_source)
            self._spawn(following, "egress registry watch")
        self._followed = source

    def stop(self) -> "asyncio.Task[None] | None":
        """Refuse everything, and let go of file and registry; the task ends when all is let go,
        or hangs. It may be opened again."""
        self._running = False
        self.file_source.unwatch()
        for task in self._tasks:
            task.cancel()
        registry, tasks = self.registry_source, [*self._tasks, self._writes.stop()]
        self.file_source = self._file_at(None)
        self.registry_source = self._followed = None
        self.refuse_all_because = UNCONFIGURED
        self.put_in_force()
        closed = registry.close() if registry else None

        async def let_go() -> None:
            await asyncio.gather(*filter(None, tasks), return_exceptions=True)
            if closed:
                await asyncio.wait([asyncio.wrap_future(closed)], timeout=_CLOSING)

        try:
            return asyncio.get_running_loop().create_task(let_go(), name="egress registry close")
        except RuntimeError:  # no loop any more
            return None

    # -- changing

    async def change[T](
        self, make: "Callable[[Edit], T]", patience: float = PATIENCE, *, dry_run: bool = False
    ) -> T:
        """Let ``make`` change the registry, in a thread and in one transaction, which ``dry_run``
        undoes. When this returns the change is in the database and in force. Raises what the
        registry raises, and what ``Writes.make`` does."""
        source = self.registry_source
        if source is None:
            raise RegistryUnavailable(NO_REGISTRY)

        def edit(registry: "Registry") -> T:
            with registry.edit(dry_run=dry_run) as changes:
                return make(changes)

        async def write() -> T:
            if source is not self.registry_source:
                raise RegistryUnavailable("The registry was replaced: nothing was changed")
            return await source.call(edit, limited=False)  # ``Writes.make`` limits it

        return await self._writes.make(write, patience)

    async def reload(self) -> str:
        """Read the policy file again, now. What is wrong with it, and then the last good policy
        stays in force; empty if nothing is."""
        source = self.file_source
        if not await source.reload() and source.watcher:
            source.watcher.try_again()
        return self.file_error

    async def _catch_up(self, seen: int | None = None) -> None:
        """Take over what the registry holds now. ``seen`` is a revision that was there, if that is
        known: what this node has taken over already is not read again."""
        source = self.registry_source
        if source is None:
            return
        async with self._loading:
            if source.error or seen is None or seen != source.state.revision:
                seen = await source.call(lambda registry: registry.revision())
            if source.error or seen != source.state.revision:
                state = await source.call(lambda registry: registry.load(source.state))
                if source is not self.registry_source:
                    return
                source.state = state
                self._version += 1
            await self._rebuild()

    async def _rebuild(self) -> None:
        """Make the snapshot anew, in a thread, until it is of what is there."""
        async with self._building:
            while self._is_stale:
                version, file = self._version, self.file
                if file is None or self.problem:
                    self._made = version
                    return
                given = file, self.state, self.socks5, self.default
                made = await self._threads.run(self._make, *given)
                if version == self._version:
                    self._take(*made)

    def _make(
        self, file: Policy, state: RegistryState | None, socks5: bool, default: Default
    ) -> tuple[Merged, Snapshot]:
        merged = merge(file, state, self.compile_filter)
        return merged, build_snapshot(
            merged.policy,
            self.compile_filter,
            socks5_enabled=socks5,
            default=default,
            unusable=merged.unusable,
            previous=self.snapshot,
        )

    def _take(self, merged: Merged, snapshot: Snapshot) -> None:
        self._made = self._version
        self.policy = merged.policy
        _tell_warnings(snapshot, self.snapshot)
        self._replace(snapshot)

    def _replace(self, snapshot: Snapshot) -> None:
        self.router.snapshot = snapshot
        self.on_change()

    # -- the policy file

    async def _take_content(self, source: FileSource, content: FileContent) -> None:
        async with self._building:
            version, made = -1, None
            while made is None or version != self._version:  # what it is made with has changed
                if source is not self.file_source:
                    return
                version = self._version
                given = content.policy, self.state, self.socks5, self.default
                made = await self._threads.run(self._make, *given)
            # Only now: what cannot be made is not what every later change is made of.
            source.take(content)
            self._version += 1
            self._file_taken()
            if self.problem:
                self.put_in_force()
            else:
                self._take(*made)
        logger.info(f"Egress policy reloaded: {self.describe()}")

    def _file_taken(self) -> None:
        if self.registry:
            file = self.file or Policy()
            self.registry.elsewhere = PolicyFileNames(
                frozenset(one.name for one in file.proxies),
                frozenset(one.name for one in file.pools),
                self.compile_filter,
            )

    # -- the registry

    async def _registry_seen(self, revision: int) -> None:
        source = self.registry_source
        if source and (revision != source.state.revision or source.error or self._is_stale):
            await self._catch_up(revision)

    def _spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def closed_snapshot() -> Snapshot:
    """The policy of who has none, made ready."""
    return build_snapshot(CLOSED, _no_filters)


def _no_filters(_: str) -> Filter:
    raise ValueError("there are none")


def _tell_warnings(snapshot: Snapshot, before: Snapshot) -> None:
    for warning in snapshot.warnings:
        if warning not in before.warnings:
            logger.warning(f"Egress policy: {warning}")
