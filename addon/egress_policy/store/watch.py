"""Notices that the policy file has changed. Reading it is up to who is called.

Polling, because it also works for files on network and container mounts and for those that are
replaced by a rename.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from ..log import get_logger

logger = get_logger(__name__)

Stamp = tuple[int, int, int]
"""Modification time in nanoseconds, size and inode."""


class PolicyWatcher:
    """Calls ``on_change`` once for each change that has come to rest, ``on_missing`` once when
    the file goes. Changes count from the construction on: construct it before the file is read.
    """

    def __init__(
        self,
        path: Path,
        on_change: Callable[[], object],
        on_missing: Callable[[], object],
        interval: float = 0.5,
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_missing = on_missing
        self._interval = interval
        self._told = self._seen = _stamp(path)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to poll, on the running loop."""
        self._task = asyncio.create_task(self._run(), name=f"egress-policy watch {self._path}")

    def stop(self) -> None:
        """End polling; safe to call at any time."""
        if self._task:
            self._task.cancel()
            self._task = None

    def poll(self) -> None:
        """Look once. A new version counts when it is the same at two polls running, so that a
        half-written file is not read."""
        stamp = _stamp(self._path)
        settled, self._seen = stamp == self._seen, stamp
        if not settled or stamp == self._told:
            return
        self._told = stamp
        if stamp is None:
            self._on_missing()
        else:
            self._on_change()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                self.poll()
            except Exception:  # one bad call must not end the watch
                logger.exception("The change of %s could not be handled", self._path)


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
