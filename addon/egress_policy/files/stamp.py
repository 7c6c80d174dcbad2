"""Which version of a file lies somewhere, without reading it."""

import os
from pathlib import Path

Stamp = tuple[int, ...]
"""Times of modification and change in nanoseconds, size and inode. A program may set the first; the
last two tell apart versions that were written within one tick of the clock."""


def stamp_of(path: Path) -> Stamp | None:
    """``None`` if there is no file. Raises ``OSError`` for one that cannot be looked at."""
    try:
        return stamp(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
