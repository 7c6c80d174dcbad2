"""Python's collector of cycles, and the thousands of entries of a policy that it need not visit."""

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from typing import Final

_LIMIT: Final = 10.0
_NEVER: Final = 1_000_000


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Read thousands of entries that stay, and take what is in memory then from the collector.

    It would visit all of them again and again while they are read, and later with each full
    collection, as an edit of a large file causes one: with mitmproxy's own modules that takes a
    tenth of a second, in which no flow moves. Cycles of flows that are open at this moment are
    never collected, so this is for the start and for a change of the settings, not for edits.
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
def full_collections_put_off(limit: float = _LIMIT) -> Iterator[None]:
    """Replace thousands of entries by as many, on the running loop, and let full collections wait
    until the old ones are gone: ``limit`` seconds at most, because a file that is read may hang.

    With both in memory, and what was read besides, a full collection takes several times as long,
    and no flow moves in it. Younger cycles, such as those of flows, are still collected.
    """
    full = gc.get_threshold()[2]
    # Python 3.14 says 0 and collects in parts; whoever put them off lets them come again.
    if full in (0, _NEVER):
        yield
        return
    _set_full(_NEVER)
    timer = asyncio.get_running_loop().call_later(limit, _set_full, full)
    try:
        yield
    finally:
        timer.cancel()
        _set_full(full)


def _set_full(threshold: int) -> None:
    youngest, younger, _ = gc.get_threshold()
    gc.set_threshold(youngest, younger, threshold)
