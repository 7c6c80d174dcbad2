"""Python's collector of cycles, and the thousands of entries of a policy that it need not visit."""

import contextlib
import gc
from collections.abc import Iterator


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
