"""Notices changes of the policy file. The callback reads it.

Polling also works for files on network and container mounts, and for files that a rename replaces.
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
"""Seconds for one poll."""
_LONGEST_PAUSE: Final = 16
"""The most polls between two attempts."""


class PolicyWatcher:
    """Calls ``on_change`` for each change that has settled, and ``on_missing`` once when the file
    disappears. Changes count from the construction on: construct it before the file is read.

    While ``on_change`` returns false or raises, it is called again, at growing intervals.
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
        """Polls between the last failed attempt and the next; 0 after a successful one."""
        self._left = 0
        self._threads = Threads("egress-policy-watch", at_once=1)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to poll, on the running loop; safe to call again."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"egress-policy watch {self._path}")

    def stop(self) -> None:
        """Stop polling; safe to call at any time."""
        if self._task:
            self._task.cancel()
            self._task = None

    def try_again(self) -> None:
        """Call ``on_change`` at the next poll even if the file has not changed."""
        self._pause = self._left = 1

    @property
    def next_look(self) -> float:
        """Seconds until the next poll: fewer while a change has not settled."""
        return self._interval if self._seen == self._told else min(self._interval, MOMENT)

    async def poll(self) -> None:
        """Poll once. A new version counts when two polls in a row see it, so that a half-written
        file is not read."""
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
        """Use a thread, because a hanging mount would block the event loop."""
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
    """The file's stamp; a failure has its own stamp, so that reading the file shows the cause."""
    try:
        return stamp_of(path)
    except OSError as error:
        return 0, 0, -(error.errno or 1)
