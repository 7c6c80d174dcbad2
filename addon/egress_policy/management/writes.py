"""Changes of the registry, made one after the other and put in force together.

Putting one change in force costs as much as putting twenty in force. Changes that wait are
therefore made in one go before they are put in force, and each returns when it is. Each change has
a time limit, and only so many may wait.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import MaybeMade, RegistryDown, RegistryUnavailable
from ..log import get_logger

logger = get_logger(__name__)

PATIENCE: Final = 10.0
"""Seconds for a change, from the call to its return."""
WAITING: Final = 100
"""Changes that may wait at once."""
_TOGETHER: Final = 0.2
"""Seconds after which the changes made so far are put in force, even if others wait."""


class NotMade(RegistryDown):
    """The change was not begun, because others were in its way."""

    code = "REGISTRY_BUSY"


class MadeOnly(RegistryDown):
    """The change was made, but is not in force here yet."""

    code = "MADE_NOT_IN_FORCE"

    def __init__(self, why: str) -> None:
        super().__init__(f"The change was made. It is not in force here yet: {why}")


@dataclass(eq=False)
class _Asked[T]:
    write: Callable[[], Awaitable[T]]
    until: float
    answer: asyncio.Future[T] = field(default_factory=asyncio.Future)
    begun: bool = False
    made: bool = False

    @property
    def is_in_time(self) -> bool:
        """Afterwards the caller has timed out."""
        return asyncio.get_running_loop().time() < self.until


class Writes:
    """For one event loop. ``put_in_force`` puts all changes so far in force; it may be called more
    often than there are changes."""

    def __init__(self, put_in_force: Callable[[], Awaitable[None]]) -> None:
        self._put_in_force = put_in_force
        self._waiting: deque[_Asked[Any]] = deque()
        self._under_way: list[_Asked[Any]] = []
        self._running: asyncio.Task[None] | None = None

    async def make[T](self, write: Callable[[], Awaitable[T]], patience: float = PATIENCE) -> T:
        """Make a change in its turn, and return the result of ``write`` when it is in force.

        Raises the errors of ``write``; ``NotMade`` if too many wait or ``patience`` ends before
        its turn comes, ``MaybeMade`` if it ends later.
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
            why = f"The registry has not answered within {patience:g} s"
            raise _unanswered(asked, why) from None

    def stop(self) -> asyncio.Task[None] | None:
        """Begin no more changes. Returns the task that is running."""
        for asked in (*self._under_way, *self._waiting):
            if not asked.answer.done():
                asked.answer.set_exception(_unanswered(asked, "The registry is closed"))
        self._waiting.clear()
        if self._running:
            self._running.cancel()
        return self._running

    async def _run(self) -> None:
        try:
            while self._waiting:
                if made := await self._make_some():
                    await self._answer(made)
                self._under_way.clear()
        finally:
            self._running = None
            self._under_way.clear()

    async def _make_some(self) -> list[tuple[_Asked[Any], object]]:
        """The changes that were made, with their results."""
        made: list[tuple[_Asked[Any], object]] = []
        end = time.monotonic() + _TOGETHER
        while self._waiting and (not made or time.monotonic() < end):
            asked = self._waiting.popleft()
            if asked.answer.done():  # its caller has gone
                continue
            asked.begun = True
            self._under_way.append(asked)
            try:
                async with asyncio.timeout_at(asked.until):
                    result = await asked.write()
            except Exception as error:  # noqa: BLE001 (it is for the caller)
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
        except Exception:
            logger.exception("A change of the egress registry could not be put in force")
            failure = MadeOnly("something unexpected happened; the log says more")
        for asked, result in made:
            if asked.answer.done():
                continue
            if failure:
                asked.answer.set_exception(failure)
            else:
                asked.answer.set_result(result)


def _unanswered(asked: _Asked[Any], why: str) -> RegistryDown:
    """The error for the caller, by how far the change has come."""
    if asked.made:
        return MadeOnly(why)
    if asked.begun:
        return MaybeMade(why)
    return NotMade(f"{why}: this one was not made")
