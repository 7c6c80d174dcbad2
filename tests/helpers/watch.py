"""Waiting for something to become true.

`Watch` is for changes that notify it and needs no polling; `poll` is for everything else.
"""

import asyncio
from collections.abc import Callable


async def poll(predicate: Callable[[], object], timeout: float = 20) -> None:
    """Wait until `predicate` holds, if nothing reports the change. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while not predicate():
            await asyncio.sleep(0.02)


class Watch:
    """Call `notify` after each change; `until` returns as soon as its predicate holds."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    def notify(self) -> None:
        for predicate, future in self._waiting:
            if not future.done() and predicate():
                future.set_result(None)

    async def until(self, predicate: Callable[[], object], timeout: float = 10) -> None:
        """Raises TimeoutError after `timeout` seconds."""
        if predicate():
            return
        entry = (predicate, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await entry[1]
        finally:
            self._waiting.remove(entry)
