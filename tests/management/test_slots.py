"""Room for few at a time, and for fewer at one place."""

import asyncio

from egress_policy.management.slots import Slots


class Work:
    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.inside: list[str] = []
        self.may_end = asyncio.Event()

    async def at(self, place: str) -> None:
        async with self.slots.at(place):
            self.inside.append(place)
            await self.may_end.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_at_a_time_and_fewer_at_one_place() -> None:
    work = Work(Slots(3, 2))
    tasks = [asyncio.create_task(work.at(place)) for place in ("a", "a", "a", "b", "b")]
    await settle()
    assert work.inside == ["a", "a", "b"]  # the third one at a holds up no other
    work.may_end.set()
    await asyncio.gather(*tasks)
    assert sorted(work.inside) == ["a", "a", "a", "b", "b"]
    assert work.slots._gates == {}


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    work = Work(Slots(1, 1))
    tasks = [asyncio.create_task(work.at(place)) for place in ("a", "a", "b")]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert work.slots._gates == {}
    work.may_end.set()
    await work.at("a")
