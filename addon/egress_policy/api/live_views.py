"""The live view as server-sent events, in batches: a busy proxy costs its watchers little more."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from ..management.live import RING, LiveEvent, LiveFeed
from ..sentence import Sentence
from .problems import Problem

VIEWS: Final = 16
"""Watchers at once."""
KEEP_ALIVE: Final = 15.0
"""Seconds between comments that keep a view open while nothing happens."""
BATCH: Final = 0.1
"""Seconds whose events are sent together."""


class LiveViews:
    """The watchers of one feed."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._watching = 0
        self._frames: dict[bool, dict[int, bytes]] = {True: {}, False: {}}

    async def open(self, since: int, queries: bool = True) -> AsyncGenerator[bytes]:
        """The events after ``since`` and all later ones, until the feed is closed; ``queries`` says
        whether their paths have the query.

        Raises ``Problem`` 429 if too many watch already. The caller closes the stream.
        """
        if self._watching >= VIEWS:
            wait = {"Retry-After": "10"}
            raise Problem(
                429,
                "TOO_MANY_VIEWS",
                Sentence("too_many_views", "Too many watch the flows already"),
                wait,
            )
        stream = self._stream(since, queries)
        await anext(stream)  # starts it, so that it counts and closing it is noticed
        return stream

    async def _stream(self, since: int, queries: bool) -> AsyncGenerator[bytes]:
        self._watching += 1
        try:
            with self._feed.subscribe() as events:
                past, lost = self._feed.since(since), 0
                yield b""
                yield self._frames_of(past, queries) + b": open\n\n"
                while True:
                    try:
                        async with asyncio.timeout(KEEP_ALIVE):
                            first = await anext(events)
                    except TimeoutError:
                        yield b": still here\n\n"
                        continue
                    except StopAsyncIteration:
                        return
                    frames = self._frames_of([first, *events.take()], queries)
                    if events.lost > lost:
                        frames = _frame("lost", {"count": events.lost - lost}) + frames
                        lost = events.lost
                    yield frames
                    await asyncio.sleep(BATCH)
        finally:
            self._watching -= 1

    def _frames_of(self, events: Iterable[LiveEvent], queries: bool) -> bytes:
        return b"".join(self._frame_of(event, queries) for event in events)

    def _frame_of(self, event: LiveEvent, queries: bool) -> bytes:
        """Encoded once for all watchers who see queries, and once for all others."""
        frames = self._frames[queries]
        frame = frames.get(event.seq)
        if frame is None:
            told = event if queries else event.without_query()
            frame = frames[event.seq] = _frame("flow", told.shown(), event.seq)
            while len(frames) > RING:
                del frames[next(iter(frames))]
        return frame


def _frame(kind: str, data: dict[str, object], seq: int | None = None) -> bytes:
    number = f"id: {seq}\n" if seq else ""
    return f"{number}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
