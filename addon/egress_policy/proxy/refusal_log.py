"""Logs each refusal: of requests, CONNECTs, connections and look-ups.

Refusals may come a thousand times a second, and a log that fills the disk stops everything. So each
text is written once a second, with a count of its repeats, and the number of texts is limited.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from mitmproxy import connection

from ..log import get_logger
from ..model.decision import Refusal

logger = get_logger(__name__)

WINDOW: Final = 1.0
"""Seconds in which each text is written once."""
TEXTS: Final = 50
"""How many texts are written within the window."""


class RefusalLog:
    """Writes refusals at INFO. What is left out is counted, and reported when the window ends.

    ``clock`` is in seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._opened: float | None = None
        self._repeats: dict[str, int] = {}
        self._others = 0

    def note(self, refusal: Refusal, client: connection.Client | None = None) -> None:
        """Log a refusal. With a ``client``, the line begins with its address."""
        self.flush()
        if self._opened is None:
            self._open({})
        text = f"egress refused: {refusal.code} {refusal.reason}: {refusal.detail}"
        if text in self._repeats:
            self._repeats[text] += 1
        elif len(self._repeats) >= TEXTS:
            self._others += 1
        else:
            self._repeats[text] = 0
            logger.info(text, extra={"client": client.peername} if client else {})

    def flush(self) -> None:
        """Report what was left out, if the window is over."""
        if self._opened is None or self._clock() - self._opened < WINDOW:
            return
        repeats = {text: count for text, count in self._repeats.items() if count}
        others, self._opened, self._repeats, self._others = self._others, None, {}, 0
        for text, count in repeats.items():
            logger.info(f"{text} ({count} more)")
        if others:
            logger.info(f"egress refused: {others} more for other reasons or targets")
        if repeats or others:
            self._open(dict.fromkeys(repeats, 0))

    def _open(self, written: dict[str, int]) -> None:
        self._opened, self._repeats = self._clock(), written
        with contextlib.suppress(RuntimeError):  # without a loop, the next refusal flushes
            asyncio.get_running_loop().call_later(WINDOW, self.flush)


_log = RefusalLog()


def note_refusal(refusal: Refusal, client: connection.Client | None = None) -> None:
    """Log a refusal."""
    _log.note(refusal, client)


def start_afresh() -> None:
    """Forget the refusals of another mitmproxy in this process."""
    global _log
    _log = RefusalLog()
