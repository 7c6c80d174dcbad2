"""A write-ahead log beside an SQLite file that it was not written for.

SQLite applies any log that lies beside a file. If a backup was put in the place of the file, that
undoes the restore, or leaves a mixture of both. A log does not name its file, but a checkpoint
copies its pages into the file. So a file that is younger than its log, and holds no page as the
log has it, came from somewhere else.

The format is that of https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

import contextlib
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct(">8xI4x8s8x")
"""Page size, salts."""
_FRAME: Final = struct.Struct(">I4x8s8x")
"""Page number, salts. The page follows."""


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


class LogCheck:
    """Judges a file and its log as often as asked, and reads them only if they changed.

    ``inode`` is that of the file for which the log was begun, once it is known: a file that was
    moved here keeps its time.
    """

    def __init__(self, path: Path) -> None:
        self.inode: int | None = None
        self._path = path
        self._judged: tuple[object, bool] = None, False

    def is_stray(self) -> bool:
        """Whether the log is that of another file. SQLite reports what cannot be read."""
        try:
            file, log = self._path.stat(), log_of(self._path).stat()
            changed = file.st_mtime_ns
            if self.inode not in (None, file.st_ino):
                changed = max(changed, file.st_ctime_ns)
            if changed <= log.st_mtime_ns:
                return False
            seen = changed, file.st_ino, file.st_size, log.st_mtime_ns, log.st_ino, log.st_size
            if self._judged[0] != seen:
                self._judged = seen, _is_foreign(self._path)
        except (OSError, sqlite3.Error):
            return False
        return self._judged[1]


def _is_foreign(path: Path) -> bool:
    data = log_of(path).read_bytes()
    if len(data) < _HEADER.size:
        return False
    size, _ = _HEADER.unpack_from(data)
    pages, image = list(_pages(data)), b""
    if pages:
        image = _image(path)
    return bool(pages) and not any(
        image[(number - 1) * size : number * size] == page for number, page in pages
    )


def _pages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The numbered pages of a log, without those left over from the log before."""
    size, salts = _HEADER.unpack_from(data)
    end = len(data) - _FRAME.size - size
    for at in range(_HEADER.size, end + 1, _FRAME.size + size):
        number, salts_there = _FRAME.unpack_from(data, at)
        if salts_there != salts:
            return
        yield number, data[at + _FRAME.size : at + _FRAME.size + size]


def _image(path: Path) -> bytes:
    """The file without its log. By SQLite itself: to open and close a file by another way drops
    the locks that SQLite has on it in this process."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.serialize()
