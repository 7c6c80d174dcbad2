"""A system file that is read again after a change: one ``stat`` per use, no watcher."""

from collections.abc import Callable
from pathlib import Path

from ..log import get_logger
from .stamp import stamp_of

logger = get_logger(__name__)


class Reread[T]:
    """The latest result of ``read(path)``.

    If the file cannot be read (``OSError``), the last result stays and each use tries again. If
    there is no result yet, and for any other exception of ``read``, the exception is passed on.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._known: tuple[object, T] | None = None
        self._failing = False

    def get(self) -> T:
        """The result; the same object as long as the file stays the same."""
        try:
            value = self._get()
        except OSError as error:
            if self._known is None:
                raise
            if not self._failing:
                kept = "its last content stays in force until it can be read"
                logger.warning(f"{self._path} cannot be read ({error.strerror}); {kept}")
            self._failing = True
            return self._known[1]
        if self._failing:
            logger.info(f"{self._path} can be read again")
            self._failing = False
        return value

    def _get(self) -> T:
        # Before reading, so that the next call notices a change in between.
        stamp = stamp_of(self._path)
        if self._known is not None and self._known[0] == stamp:
            return self._known[1]
        value = self._read(self._path)
        if self._known is not None and stamp_of(self._path) != stamp:
            return self._known[1]  # it is being written
        self._known = stamp, value
        return value
