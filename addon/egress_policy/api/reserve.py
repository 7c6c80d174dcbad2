"""Descriptors set aside, so that the API can be reached when the process has used up the others."""

import os
from typing import Final

RESERVED: Final = 8
"""Connections that a listener can accept when the process has no descriptor left."""


class Reserve:
    """Holds up to ``count`` descriptors open, and gives them up one by one.

    The caller has to use the place at once: everything else in the process waits for one too.
    """

    def __init__(self, count: int = RESERVED) -> None:
        self._count = count
        self._kept: list[int] = []
        self.fill()

    def fill(self) -> None:
        """Set aside what is missing, as far as the system has descriptors left."""
        try:
            while len(self._kept) < self._count:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return  # tried again when a connection ends

    def give_up(self) -> bool:
        """Give up a descriptor; false if none is left."""
        if not self._kept:
            return False
        os.close(self._kept.pop())
        return True

    def close(self) -> None:
        while self.give_up():
            pass
