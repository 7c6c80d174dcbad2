"""Notices that the policy file has changed. Reading it is up to the callback.

Polling, because it also works for files on network and container mounts and for those that are
replaced by a rename.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from ..files.stamp import Stamp, stamp_of
from ..log import get_logger
from ..threads import Threads, TooManyHang
from .parse import MOMENT

logger = get_logger(__name__)

_PATIENCE: Final = 5.0
"""Seconds for one look."""
_LONGEST_PAUSE: Final = 16
"""Polls between two attempts at the most."""


class PolicyWatcher:
    """Calls ``on_change`` for each change that has come to rest, ``on_missing`` once when the file
    goes. Changes count from the construction on: construct it before the file is read.

    While ``on_change`` returns false or raises, it is called again, after longer and longer pauses.
    """

    def __init__(
        self,
        path: Path,
        on_change: Callable[[], Awaitable[bool]],
        on_missing: Callable[[], object],
        interval: float = 0.5,
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_missing = on_missing
        self._interval = interval
        self._told = self._seen = _stamp(path)
        self._pause = 0
        """Polls between the last failed attempt and the next; 0 after one that was good."""
        self._left = 0
        self._threads = Threads("egress-policy-watch", at_once=1)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to poll, on the running loop; safe to call again."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"egress-policy watch {self._path}")

    def stop(self) -> None:
        """End polling; safe to call at any time."""
        if self._task:
            self._task.cancel()
            self._task = None

    def try_again(self) -> None:
        """Call ``on_change`` at the next poll even if the file stays as it is."""
        self._pause = self._left = 1

    @property
    def next_look(self) -> float:
        """Seconds until the next poll: fewer while a change has not come to rest."""
        return self._interval if self._seen == self._told else min(self._interval, MOMENT)

    async def poll(self) -> None:
        """Look once. A new version counts when it is the same at two polls running, so that a
        half-written file is not read."""
        stamp = await self._look()
        settled, self._seen = stamp == self._seen, stamp
        if not settled:
            return
        if stamp == self._told:
            if self._pause == 0:
                return
            self._left -= 1
            if self._left > 0:
                return
        else:
            self._pause = 0
        self._told = stamp
        if stamp is None:
            self._pause = 0
            self._on_missing()
        else:
            self._pause = self._left = min(max(1, 2 * self._pause), _LONGEST_PAUSE)
            if await self._on_change():
                self._pause = 0

    async def _look(self) -> Stamp | None:
        """In a thread: a file on a mount that hangs would hold the loop."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._threads.run(_stamp, self._path)
        except (TimeoutError, TooManyHang):
            return 0, 0, -errno.ETIMEDOUT

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.next_look)
            try:
                await self.poll()
            except Exception:  # one bad call must not end the watch
                logger.exception("The change of %s could not be handled", self._path)


def _stamp(path: Path) -> Stamp | None:
    """What cannot be looked at has a stamp of its own: reading it then says what is wrong."""
    try:
        return stamp_of(path)
    except OSError as error:
        return 0, 0, -(error.errno or 1)
