import asyncio
import itertools
from collections.abc import Iterator

import pytest

from egress_policy.api.pacing import REST, SLICE, Pacing
from tests.helpers.clock import Clock


class Work:
    """Pieces that take ``cost`` seconds each to make, of a clock that sleeping moves on too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float) -> None:
        self.clock, self.cost, self.worked = Clock(), cost, 0.0
        self.pacing = Pacing(self.clock)
        sleep = asyncio.sleep

        async def sleeping(seconds: float) -> None:
            until = self.clock.now + seconds
            await sleep(0)
            self.clock.now = max(self.clock.now, until)

        monkeypatch.setattr(asyncio, "sleep", sleeping)

    def pieces(self, count: int) -> Iterator[str]:
        for number in range(count):
            self.clock.now += self.cost
            self.worked += self.cost
            yield f"{number},"

    async def run(self, count: int) -> list[bytes]:
        return [batch async for batch in self.pacing.batches(self.pieces(count))]


async def test_pieces_come_in_slices_and_none_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, SLICE / 4)
    batches = await work.run(21)
    assert b"".join(batches).decode() == "".join(f"{n}," for n in range(21))
    assert {batch.count(b",") for batch in batches[:-1]} <= {4, 5}
    assert await work.run(0) == []


@pytest.mark.parametrize("at_once", [1, 8])
async def test_loop_is_left_to_others_most_of_the_time(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    work = Work(monkeypatch, SLICE / 4)
    began = work.clock.now
    done = await asyncio.gather(*(work.run(100) for _ in range(at_once)))
    assert {len(b"".join(batches).split(b",")) for batches in done} == {101}
    share = work.worked / (work.clock.now - began)
    assert share <= 1.3 * SLICE / (SLICE + REST)


async def test_piece_that_takes_long_is_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = await Work(monkeypatch, 10 * SLICE).run(3)
    assert batches == [b"0,", b"1,", b"2,"]


async def test_text_of_a_database_that_is_not_unicode_is_carried() -> None:
    pieces = itertools.repeat("\udcff", 1)
    assert [batch async for batch in Pacing().batches(pieces)] == [b"\xff"]
