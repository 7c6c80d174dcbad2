"""Python's collector of cycles, and the thousands of entries of a policy that it need not visit.

The collector belongs to the whole process, so nothing happens by default: the script for mitmdump
uses ``QuietCollector``, and a program that embeds the addons may.
"""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

_LIMIT: Final = 10.0
_NEVER: Final = 1_000_000


class Collector:
    """Leaves the collector as it is."""

    def while_opening(self) -> AbstractContextManager[None]:
        """Around what reads a policy at the start, or after a change of the settings."""
        return contextlib.nullcontext()

    def while_editing(self) -> AbstractContextManager[None]:
        """Around what takes in an edit of the policy file or registry, on the running loop."""
        return contextlib.nullcontext()


class QuietCollector(Collector):
    """Keeps the collector away from lasting entries, so that an edit does not stop flows."""

    def __init__(self, limit: float = _LIMIT) -> None:
        self._limit = limit

    @contextlib.contextmanager
    def while_opening(self) -> Iterator[None]:
        """Take what is in memory then from the collector.

        It would visit thousands of entries again and again while they are read, and later with each
        full collection. Cycles of flows that are open at this moment are never collected.
        """
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
            gc.freeze()
        finally:
            if enabled:
                gc.enable()

    @contextlib.contextmanager
    def while_editing(self) -> Iterator[None]:
        """Let full collections wait until the old entries are gone: ``limit`` seconds at most,
        because a file that is read may hang.

        With old and new entries in memory a full collection takes several times as long. Younger
        cycles, such as those of flows, are still collected.
        """
        full = gc.get_threshold()[2]
        # Python 3.14 has 0 here and collects in parts. _NEVER: an outer block puts them off.
        if full in (0, _NEVER):
            yield
            return
        _set_full(_NEVER)
        timer = asyncio.get_running_loop().call_later(self._limit, _set_full, full)
        try:
            yield
        finally:
            timer.cancel()
            _set_full(full)


def _set_full(threshold: int) -> None:
    youngest, younger, _ = gc.get_threshold()
    gc.set_threshold(youngest, younger, threshold)
