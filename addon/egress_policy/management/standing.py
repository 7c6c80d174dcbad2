"""The policy as it stands: file and registry, made into the snapshot that the service decides by.

Opening is synchronous and for the start, where whatever cannot be had must end it. From then on
edits of either come in by themselves: they are read and made ready in a thread and replace the
snapshot whole. What cannot be read leaves the last good snapshot in force and says so.
"""

import asyncio
import contextlib
import functools
import gc
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..log import get_logger
from ..model.rule import Default, Filter, FilterCompiler, Policy
from ..policy.snapshot import Snapshot, build_snapshot
from ..service import EgressService
from ..store.errors import RegistryUnavailable
from ..store.policy_file import PolicyFileError, load_policy
from ..store.records import Elsewhere, RegistryState
from ..store.watch import PolicyWatcher
from .combine import Combined, combine

if TYPE_CHECKING:
    from ..store.registry import Registry

logger = get_logger(__name__)

CLOSED = Policy(default="refuse")
"""The policy of who has none: refuse everything."""
UNCONFIGURED = "the egress policy is not configured"
NO_REGISTRY = "There is no registry: egress_registry is empty"
_FILTERS_KEPT = 20_000
_POLL = 1.0
"""Seconds that one wait for a change of the registry lasts; changes end it."""


class Standing:
    """Owns the snapshot of ``service``.

    ``barred`` is for whoever configures: why everything is to be refused, whatever the policy
    says. ``file_error`` and ``registry_error`` say what is wrong with the last edit or with the
    database, while the last good policy stays in force.
    """

    def __init__(
        self,
        service: EgressService,
        compile_filter: FilterCompiler,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.service = service
        self.on_change = on_change
        self.compile_filter: FilterCompiler = functools.lru_cache(_FILTERS_KEPT)(compile_filter)
        self.file: Policy | None = None
        self.file_path: Path | None = None
        self.file_error = ""
        self.registry: Registry | None = None
        self.state: RegistryState | None = None
        self.registry_error = ""
        self.policy = CLOSED
        self.barred = UNCONFIGURED
        self.socks5 = True
        self.default: Default = "refuse"
        self._version = 0
        self._changing = asyncio.Lock()
        self._watcher: PolicyWatcher | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._threads: ThreadPoolExecutor | None = None
        self._running = False

    @property
    def snapshot(self) -> Snapshot:
        return self.service.snapshot

    @property
    def problem(self) -> str:
        """Why everything is refused; empty if the policy is in force."""
        return self.barred or (self.file_error if self.file is None else "")

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
            f"{_count(len(snapshot.proxies), 'proxy', 'proxies')}, "
            f"{_count(len(snapshot.rules), 'rule', 'rules')}, default {snapshot.default}"
        )

    # -- opening

    def open_file(self, path: Path | None) -> None:
        """Take another policy file, or none. Raises ``PolicyFileError``: then the one before
        stays or, where there was none, everything is refused until this one is mended."""
        # The watcher comes first, so that an edit behind the reading is noticed.
        watcher = PolicyWatcher(path, self._file_changed, self._file_gone) if path else None
        file, failed = None, None
        try:
            file = load_policy(path, self.compile_filter) if path else Policy()
        except PolicyFileError as error:
            if self.file is not None:
                raise
            failed = error
        if self._watcher:
            self._watcher.stop()
        self._watcher, self.file_path, self.file = watcher, path, file
        self.file_error = str(failed or "")
        if watcher and self._running:
            watcher.start()
        self._file_taken()
        if failed:
            raise failed

    def open_registry(self, location: str, confdir: Path, environ: Mapping[str, str]) -> None:
        """Take another registry, or none for an empty ``location``.

        Raises ``InvalidEntry`` and ``RegistryUnavailable``: then the one before stays.
        """
        registry, state = None, None
        if location:
            # Only here: who has no registry needs no database to start.
            from ..store.registry import Registry
            from ..store.secrets import load_key

            registry = Registry.open(location, load_key(confdir, environ))
            try:
                with _uncollected():
                    state = registry.load()
            except BaseException:
                registry.close()
                raise
        old, self.registry, self.state = self.registry, registry, state
        self.registry_error = ""
        if old:
            self._close(old)
        self._file_taken()
        self._follow()

    def put_in_force(self) -> None:
        """Make the snapshot of what is there, now."""
        self._version += 1
        if self.problem or self.file is None:
            self.policy = CLOSED
            self._replace(closed_snapshot())
        else:
            self._take(*self._make(self.file, self.state))

    def start(self) -> None:
        """Watch file and registry, on the running loop."""
        self._running = True
        if self._watcher:
            self._watcher.start()
        self._follow()

    def stop(self) -> "asyncio.Task[None] | None":
        """Refuse everything, and let go of file, registry and threads; the task ends when all is
        let go. It may be opened again."""
        self._running = False
        if self._watcher:
            self._watcher.stop()
        for task in self._tasks:
            task.cancel()
        registry, threads, tasks = self.registry, self._threads, tuple(self._tasks)
        self._watcher, self.registry, self.state = None, None, None
        self.file, self.file_path, self.file_error = None, None, ""
        self.barred = UNCONFIGURED
        self.put_in_force()

        async def let_go() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            if threads:
                await asyncio.to_thread(threads.shutdown)

        if registry:
            self._close(registry)
        self._threads = None
        try:
            return asyncio.get_running_loop().create_task(let_go(), name="egress registry close")
        except RuntimeError:  # no loop any more
            return None

    def _close(self, registry: "Registry") -> None:
        """Behind whatever is still done with it."""
        if self._threads:
            self._threads.submit(registry.close)
        else:
            registry.close()

    # -- changing

    async def change[T](self, edit: "Callable[[Registry], T]") -> T:
        """Let ``edit`` change the registry, in a thread. When this returns the change is in the
        database and in force. Raises what the registry raises."""
        registry = self.require_registry()
        async with self._changing:
            result = await self._in_thread(edit, registry)
            await self._refresh(registry)
        return result

    def require_registry(self) -> "Registry":
        """Raises ``RegistryUnavailable`` where there is none."""
        if self.registry is None:
            raise RegistryUnavailable(NO_REGISTRY)
        return self.registry

    def reload(self) -> bool:
        """Read the policy file again, now. A broken one keeps the last good policy; false then."""
        if self.file_path is None:
            return False
        try:
            policy = load_policy(self.file_path, self.compile_filter)
        except PolicyFileError as error:
            self._file_broken(error)
            return False
        self._file_read(policy)
        self.put_in_force()
        logger.info(f"Egress policy reloaded: {self.describe()}")
        return True

    async def _reload_in_thread(self, path: Path) -> None:
        try:
            policy = await self._in_thread(load_policy, path, self.compile_filter)
        except PolicyFileError as error:
            if path == self.file_path:
                self._file_broken(error)
            return
        if path == self.file_path:
            async with self._changing:
                self._file_read(policy)
                await self._rebuild()
            logger.info(f"Egress policy reloaded: {self.describe()}")

    async def _refresh(self, registry: "Registry") -> None:
        """Take over what the registry holds now."""
        state = await self._in_thread(registry.load, self.state)
        if registry is self.registry:
            self.state = state
            self._version += 1
            await self._rebuild()

    async def _rebuild(self) -> None:
        """Make the snapshot anew, in a thread, until it is of what is there."""
        made = -1
        while made != self._version:
            made, file = self._version, self.file
            if file is None or self.problem:
                return
            combined, snapshot = await self._in_thread(self._make, file, self.state)
            if made == self._version:
                self._take(combined, snapshot)

    def _make(self, file: Policy, state: RegistryState | None) -> tuple[Combined, Snapshot]:
        combined = combine(file, state, self.compile_filter)
        return combined, build_snapshot(
            combined.policy,
            self.compile_filter,
            socks5_enabled=self.socks5,
            default=self.default,
            unusable=combined.unusable,
            previous=self.snapshot,
        )

    def _take(self, combined: Combined, snapshot: Snapshot) -> None:
        self.policy = combined.policy
        for warning in snapshot.warnings:
            if warning not in self.snapshot.warnings:
                logger.warning(f"Egress policy: {warning}")
        self._replace(snapshot)

    def _replace(self, snapshot: Snapshot) -> None:
        self.service.snapshot = snapshot
        self.on_change()

    # -- the policy file

    def _file_changed(self) -> None:
        if self.file_path:
            self._spawn(self._reload_in_thread(self.file_path), "egress policy reload")

    def _file_gone(self) -> None:
        self.file_error = "the policy file is gone"
        logger.warning("Egress policy file is gone; the last good policy stays in force")

    def _file_broken(self, error: PolicyFileError) -> None:
        self.file_error = str(error)
        kept = "the last good one stays in force" if self.file else "everything is refused"
        logger.warning(f"Egress policy not reloaded, {kept}: {error}")

    def _file_read(self, policy: Policy) -> None:
        self.file, self.file_error = policy, ""
        self._version += 1
        self._file_taken()

    def _file_taken(self) -> None:
        if self.registry:
            file = self.file or Policy()
            self.registry.elsewhere = Elsewhere(
                frozenset(one.name for one in file.proxies),
                frozenset(one.name for one in file.pools),
                self.compile_filter,
            )

    # -- the registry

    def _follow(self) -> None:
        if self.registry and self._running:
            self._spawn(self._follow_registry(self.registry), "egress registry watch")

    async def _follow_registry(self, registry: "Registry") -> None:
        """Take over what others change, here or on another node, until it is replaced."""
        while registry is self.registry and self.state is not None:
            try:
                seen = await asyncio.to_thread(registry.wait, self.state.revision, _POLL)
                if registry is not self.registry:
                    return
                if seen != self.state.revision or self.registry_error:
                    async with self._changing:
                        await self._refresh(registry)
            except RegistryUnavailable as error:
                if registry is self.registry and not self.registry_error:
                    kept = "its last state stays in force"
                    logger.warning(f"The egress registry cannot be read, {kept}: {error}")
                self.registry_error = str(error)
                await asyncio.sleep(_POLL)
            except Exception:  # one bad state must not end the watch
                logger.exception("The change of the egress registry could not be handled")
                await asyncio.sleep(_POLL)
            else:
                if self.registry_error:
                    logger.info("The egress registry can be read again")
                self.registry_error = ""

    # -- threads and tasks

    async def _in_thread[**P, T](
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run it in the one thread that reads and writes, in its turn."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "egress-registry")
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def closed_snapshot() -> Snapshot:
    """The policy of who has none, made ready."""
    return build_snapshot(CLOSED, _no_filters)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Read thousands of entries that stay, and tell the collector so.

    It would go through all of them again and again while they are read, and with each full
    collection later, which takes a tenth of a second in which no flow moves.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


def _no_filters(_: str) -> Filter:
    raise ValueError("there are none")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
