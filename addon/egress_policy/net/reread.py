"""A file of the system that is read again when it has changed; no watcher, one ``stat`` a use."""

from collections.abc import Callable
from pathlib import Path


class Reread[T]:
    """What ``read(path)`` made of the file. An exception of ``read`` is passed on, and the file
    read again the next time."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._known: tuple[object, T] | None = None

    def get(self) -> T:
        """The same object for as long as the file is the same."""
        # Before reading: a change in between is then seen the next time.
        stamp = self._stamp()
        if self._known is None or self._known[0] != stamp:
            self._known = stamp, self._read(self._path)
        return self._known[1]

    def _stamp(self) -> object:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        # Size and inode tell apart two versions that were written within one tick of the clock.
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
