"""Room for few at a time, and for fewer at one place."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Gate:
    room: asyncio.Semaphore
    users: int = field(default=0)


class Slots:
    """``at_once`` at a time, of which ``at_a_place`` at the same place. Further ones wait in order.
    Who waits for a place takes no room from others."""

    def __init__(self, at_once: int, at_a_place: int) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._at_a_place = at_a_place
        self._gates: dict[Hashable, _Gate] = {}

    @contextlib.asynccontextmanager
    async def at(self, place: Hashable) -> AsyncIterator[None]:
        """Have a slot while the block runs."""
        gate = self._gates.get(place)
        if gate is None:
            gate = self._gates[place] = _Gate(asyncio.Semaphore(self._at_a_place))
        gate.users += 1
        try:
            async with gate.room, self._room:
                yield
        finally:
            gate.users -= 1
            if not gate.users:
                del self._gates[place]
