"""The changes that wait to be made: one after the other, and put in force together.

Putting a change in force costs as much as putting twenty in force. Those that wait when one has
been made are made as well before that is done, and each is answered when it holds. What waits has
a limit as a whole, and so has their number.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..store.errors import MaybeMade, RegistryDown, RegistryUnavailable

PATIENCE: Final = 10.0
"""Seconds from the question to the answer."""
WAITING: Final = 100
"""Changes that may wait at once."""
_TOGETHER: Final = 0.2
"""Seconds after which those that have been made are put in force, whoever else waits."""


class NotMade(RegistryDown):
    """The change was not begun: others are in its way."""

    code = "REGISTRY_BUSY"


@dataclass(eq=False)
class _Asked[T]:
    write: Callable[[], Awaitable[T]]
    until: float
    answer: asyncio.Future[T] = field(default_factory=asyncio.Future)
    begun: bool = False
    made: bool = False

    @property
    def is_in_time(self) -> bool:
        """Otherwise the one who asked says so."""
        return asyncio.get_running_loop().time() < self.until


class Writes:
    """On one loop. ``put_in_force`` makes all that has been changed hold; it may be asked more
    often than there are changes."""

    def __init__(self, put_in_force: Callable[[], Awaitable[None]]) -> None:
        self._put_in_force = put_in_force
        self._waiting: deque[_Asked[Any]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def make[T](self, write: Callable[[], Awaitable[T]], patience: float = PATIENCE) -> T:
        """Make a change in its turn, and return what ``write`` does when it is in force.

        Raises what ``write`` raises; ``NotMade`` where too many wait or ``patience`` ends before
        its turn comes, ``MaybeMade`` where it ends later.
        """
        if len(self._waiting) >= WAITING:
            raise NotMade(f"{WAITING} changes of the registry wait already: this one was not made")
        asked = _Asked(write, asyncio.get_running_loop().time() + patience)
        self._waiting.append(asked)
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="egress registry writes")
        try:
            async with asyncio.timeout_at(asked.until):
                return await asked.answer
        except TimeoutError:
            raise _late(asked, patience) from None

    def stop(self) -> asyncio.Task[None] | None:
        """Begin no more of them. The task is the one that is under way."""
        for asked in self._waiting:
            if not asked.answer.done():
                asked.answer.set_exception(NotMade("The registry is closed: nothing was changed"))
        self._waiting.clear()
        if self._running:
            self._running.cancel()
        return self._running

    async def _run(self) -> None:
        try:
            while self._waiting:
                if made := await self._make_some():
                    await self._answer(made)
        finally:
            self._running = None

    async def _make_some(self) -> list[tuple[_Asked[Any], object]]:
        """Those that were made, with what is to be answered."""
        made: list[tuple[_Asked[Any], object]] = []
        end = time.monotonic() + _TOGETHER
        while self._waiting and (not made or time.monotonic() < end):
            asked = self._waiting.popleft()
            if asked.answer.done():  # nobody waits any more
                continue
            asked.begun = True
            try:
                async with asyncio.timeout_at(asked.until):
                    result = await asked.write()
            except Exception as error:  # noqa: BLE001 (it is for the one who asked)
                if not asked.answer.done() and asked.is_in_time:
                    asked.answer.set_exception(error)
            else:
                asked.made = True
                made.append((asked, result))
        return made

    async def _answer(self, made: list[tuple[_Asked[Any], object]]) -> None:
        failure: Exception | None = None
        try:
            await self._put_in_force()
        except RegistryUnavailable as error:
            failure = MadeOnly(str(error))
        except Exception as error:  # noqa: BLE001 (it is for those who asked)
            failure = error
        for asked, result in made:
            if asked.answer.done():
                continue
            if failure:
                asked.answer.set_exception(failure)
            else:
                asked.answer.set_result(result)


class MadeOnly(RegistryDown):
    """The change was made, and does not hold here yet."""

    code = "MADE_NOT_IN_FORCE"

    def __init__(self, why: str) -> None:
        super().__init__(f"The change was made. It is not in force here yet: {why}")


def _late(asked: _Asked[Any], patience: float) -> RegistryDown:
    waited = f"within {patience:g} s"
    if asked.made:
        return MadeOnly(f"that was not done {waited}")
    if asked.begun:
        return MaybeMade(f"The registry has not answered {waited}")
    return NotMade(f"Other changes of the registry were not done {waited}: this one was not made")
