"""Long work of the API in slices, so that flows go on while it is done."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final

SLICE: Final = 0.001
REST: Final = 0.009
"""Seconds of work at a time, and of the loop for others after each."""


class Pacing:
    """The long work of one listener, which shares the slices and rests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free = -float("inf")

    async def batches(self, pieces: Iterable[str]) -> AsyncGenerator[bytes]:
        """The pieces in UTF-8, joined slice by slice."""
        left = iter(pieces)
        while batch := await self._slice(left):
            yield "".join(batch).encode("utf-8", "surrogateescape")

    async def _slice(self, pieces: Iterable[str]) -> list[str]:
        now = self._clock()
        start = max(now, self._free)
        self._free = start + SLICE + REST
        await asyncio.sleep(start - now)
        batch: list[str] = []
        until = self._clock() + SLICE
        for piece in pieces:
            batch.append(piece)
            if self._clock() >= until:
                break
        return batch
