"""What a proxy costs before it is asked for anything: an average of its hop times. Pure."""

import math
from typing import Final

TAU: Final = 10.0
"""Seconds in which a measurement loses most of its weight."""
STALE: Final = 60.0
"""Seconds after which nothing is known. Otherwise a proxy that was slow once would never be picked
for its speed again, and never be measured."""
LEAST_PENALTY: Final = 1.0
"""Seconds that a failure costs at least, however quick it was."""


class HopTime:
    """An exponentially weighted average, which follows a peak at once and forgets it by and by."""

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._at = 0.0

    def measured(self, seconds: float, now: float) -> None:
        """A hop took so long."""
        known = self.seconds(now)
        if known is not None and seconds < known:
            kept = math.exp((self._at - now) / TAU)
            seconds = known * kept + seconds * (1 - kept)
        self._seconds, self._at = seconds, now

    def failed(self, elapsed: float, now: float) -> None:
        """An attempt failed after this time. That never makes the proxy cheaper."""
        self._seconds = max(self.seconds(now) or 0.0, elapsed, LEAST_PENALTY)
        self._at = now

    def seconds(self, now: float) -> float | None:
        """The cost, ``None`` if it is unknown."""
        return None if now - self._at > STALE else self._seconds
