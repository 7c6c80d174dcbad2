"""Which version of a file lies somewhere, without reading it."""

from pathlib import Path

Stamp = tuple[int, int, int]
"""Modification time in nanoseconds, size and inode: the last two tell apart versions that were
written within one tick of the clock."""


def stamp_of(path: Path) -> Stamp | None:
    """``None`` if there is no file. Raises ``OSError`` for one that cannot be looked at."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
