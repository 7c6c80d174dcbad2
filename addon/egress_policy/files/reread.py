"""A file of the system that is read again when it has changed; no watcher, one ``stat`` a use."""

from collections.abc import Callable
from pathlib import Path

from ..log import get_logger
from .stamp import stamp_of

logger = get_logger(__name__)


class Reread[T]:
    """What ``read(path)`` made of the file.

    A file that cannot be read (``OSError``) leaves what it held before, and is tried again with
    each use. Where there is nothing before, and for any other exception of ``read``, the exception
    is passed on.
    """

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._read = read
        self._known: tuple[object, T] | None = None
        self._failing = False

    def get(self) -> T:
        """The same object for as long as the file is the same."""
        try:
            value = self._get()
        except OSError as error:
            if self._known is None:
                raise
            if not self._failing:
                kept = "what it held before stays in force until it can be"
                logger.warning(f"{self._path} cannot be read ({error.strerror}); {kept}")
            self._failing = True
            return self._known[1]
        if self._failing:
            logger.info(f"{self._path} can be read again")
            self._failing = False
        return value

    def _get(self) -> T:
        # Before reading: a change in between is then seen the next time.
        stamp = stamp_of(self._path)
        if self._known is not None and self._known[0] == stamp:
            return self._known[1]
        value = self._read(self._path)
        if self._known is not None and stamp_of(self._path) != stamp:
            return self._known[1]  # it is being written
        self._known = stamp, value
        return value
