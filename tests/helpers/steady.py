"""Clients that send requests at a steady pace, whatever becomes of them, and keep the answers."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.clients import http_get
from tests.helpers.watch import Watch


@dataclass(frozen=True)
class Answer:
    """What became of a request. ``began`` and ``ended`` are seconds on the monotonic clock.

    ``peer`` is the client address that the origin saw, ``reason`` that of a refusal, or what went
    wrong. ``status`` is 0 without an answer.
    """

    url: str
    began: float
    ended: float
    status: int
    peer: str = ""
    reason: str = ""
    retry_after: int | None = None


MOST = 64
"""Requests under way at the same time: a machine that is too slow for the pace is not flooded."""


class SteadyClients:
    """Send a request every ``pace`` seconds, each on a connection of its own, from ``source``."""

    def __init__(
        self, port: int, ca: Path, urls: Iterable[str], pace: float, source: str = ""
    ) -> None:
        self._port, self._ca, self._urls, self._pace = port, ca, urls, pace
        self._source, self._watch = source, Watch()
        self._under_way = 0
        self.answers: list[Answer] = []

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send within this block; at its end all requests have ended."""
        over = asyncio.Event()
        going = asyncio.create_task(self._go_on(over), name="steady clients")
        try:
            yield
        finally:
            over.set()
            await going

    async def until_peer(self, peer: str, count: int, patience: float = 60) -> None:
        """Wait for so many answers by way of this address, to requests from now on."""
        await self.until(lambda answer: answer.peer == peer, count, patience)

    async def until(
        self, is_one: Callable[[Answer], bool], count: int = 1, patience: float = 60
    ) -> None:
        """Wait for so many answers of a kind, to requests from now on."""
        now = time.monotonic()
        await self._watch.until(lambda: sum(map(is_one, self.since(now))) >= count, patience)

    def since(self, moment: float) -> Iterator[Answer]:
        """The answers to requests that were sent then or later."""
        return (answer for answer in self.answers if answer.began >= moment)

    def failed_since(self, moment: float) -> list[Answer]:
        return [answer for answer in self.since(moment) if answer.status != 200]

    async def _go_on(self, over: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as requests:
            began = time.monotonic()
            for number, url in enumerate(itertools.cycle(self._urls), 1):
                if self._under_way < MOST:
                    requests.create_task(self._ask(url))
                with contextlib.suppress(TimeoutError):
                    left = began + number * self._pace - time.monotonic()
                    await asyncio.wait_for(over.wait(), max(0.001, left))
                    return

    async def _ask(self, url: str) -> None:
        began = time.monotonic()
        self._under_way += 1
        try:
            response = await http_get(self._port, url, ca=self._ca, source=self._source)
            said = json.loads(response.body) if response.body.startswith(b"{") else {}
            after = response.headers.get("retry-after")
            answer = Answer(
                url,
                began,
                time.monotonic(),
                response.status,
                said.get("peer", ""),
                said.get("reason", "" if said else response.body.decode(errors="replace")[:300]),
                int(after) if after else None,
            )
        except (EOFError, OSError) as error:
            answer = Answer(url, began, time.monotonic(), 0, reason=repr(error))
        finally:
            self._under_way -= 1
        self.answers.append(answer)
        self._watch.notify()


class BusyClients(SteadyClients):
    """So many clients, each of which sends its next request as soon as it has an answer."""

    def __init__(
        self, port: int, ca: Path, urls: Iterable[str], count: int, source: str = ""
    ) -> None:
        super().__init__(port, ca, urls, 0.0, source)
        self._count = count

    async def _go_on(self, over: asyncio.Event) -> None:
        turns = itertools.cycle(self._urls)

        async def one() -> None:
            while not over.is_set():
                await self._ask(next(turns))

        await asyncio.gather(*(one() for _ in range(self._count)))
