"""How long the steps of something take."""

import time
from collections.abc import Callable


class Stopwatch:
    """Runs from its making. ``clock`` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = self._lap_began = clock()

    def lap(self) -> float:
        """Milliseconds since the last lap, or since the start. The next lap begins."""
        began, self._lap_began = self._lap_began, self._clock()
        return (self._lap_began - began) * 1000

    def total(self) -> float:
        """Milliseconds since the start."""
        return (self._clock() - self._started) * 1000
