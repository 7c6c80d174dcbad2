"""Identifies a version of a file without reading it."""

import os
from pathlib import Path

Stamp = tuple[int, ...]
"""Modification and change time in nanoseconds, size and inode. A program can set the first; the
last two distinguish versions that were written within one tick of the clock."""


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file, ``None`` if there is none. Raises ``OSError`` for other failures."""
    try:
        return stamp(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
