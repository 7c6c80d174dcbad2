"""What is made when it is needed first: in a thread, because flows run on the loop."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from ..log import get_logger
from ..sentence import Sentence
from .listener import SHORTAGES
from .problems import Problem

logger = get_logger(__name__)

RETRY: Final = 10.0
"""Seconds after which what could not be made is tried again."""


class FirstUse[T]:
    """``make`` runs once, however many wait for it. After an exception it runs again for the first
    caller ``RETRY`` seconds later, by ``clock``. ``what`` names it in the log.

    If the process has no descriptor left, it runs on the loop within ``spared``, which has some.
    """

    def __init__(
        self,
        what: str,
        make: Callable[[], T],
        spared: Callable[[], AbstractContextManager[None]] = nullcontext,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._make, self._spared, self._clock = what, make, spared, clock
        self._making: asyncio.Task[T] | None = None
        self._failed_at: float | None = None

    async def get(self) -> T:
        """What was made. Raises ``Problem`` 500 if that failed. It goes on without a caller that is
        cancelled."""
        if self._failed_at is not None and self._clock() - self._failed_at >= RETRY:
            self._making = self._failed_at = None
        if self._making is None:
            loop = asyncio.get_running_loop()
            self._making = loop.create_task(self._run(), name="egress API first use")
            self._making.add_done_callback(self._made)
        try:
            return await asyncio.shield(self._making)
        except Exception as error:
            why = Sentence("api_unloadable", "A part of the API cannot be loaded; the log says why")
            raise Problem(500, "INTERNAL", why) from error

    async def _run(self) -> T:
        try:
            return await asyncio.to_thread(self._make)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
        with self._spared():
            return self._make()

    def _made(self, making: asyncio.Task[T]) -> None:
        if making.cancelled() or (error := making.exception()) is None:
            return
        self._failed_at = self._clock()
        logger.error(
            "Egress management API: %s cannot be loaded. If packages were changed since mitmproxy "
            "started, restart it",
            self._what,
            exc_info=error,
        )
