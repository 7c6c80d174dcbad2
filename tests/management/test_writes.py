import asyncio
from collections.abc import Awaitable, Callable

import pytest

from egress_policy.errors import Conflict, MaybeMade, RegistryDown
from egress_policy.management.writes import WAITING, MadeOnly, NotMade, Writes


class Registry:
    """Changes are made when they are let; ``in_force`` are those that hold, ``rounds`` how often
    that was brought about."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.in_force: list[int] = []
        self.rounds = 0
        self.begun = False
        self.may_write, self.may_hold = asyncio.Event(), asyncio.Event()
        self.may_write.set()
        self.may_hold.set()
        self.failure: Exception | None = None
        self.writes = Writes(self._put_in_force)

    def change(self, number: int) -> Callable[[], Awaitable[int]]:
        async def write() -> int:
            self.begun = True
            await self.may_write.wait()
            self.made.append(number)
            return number

        return write

    async def make(self, number: int, patience: float = 10) -> int:
        result = await self.writes.make(self.change(number), patience)
        assert number in self.in_force
        return result

    async def _put_in_force(self) -> None:
        made = [*self.made]
        await self.may_hold.wait()
        if self.failure:
            raise self.failure
        self.rounds += 1
        self.in_force = made


def ask(registry: Registry, *numbers: int, patience: float = 10) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(registry.make(number, patience)) for number in numbers]


async def begin(registry: Registry, number: int, patience: float = 10) -> list[asyncio.Task[int]]:
    """Ask for a change that is under way and hangs."""
    registry.may_write.clear()
    asked = ask(registry, number, patience=patience)
    while not registry.begun:
        await asyncio.sleep(0)
    return asked


async def test_changes_that_come_fast_are_made_in_turn_and_put_in_force_together() -> None:
    registry = Registry()
    assert await asyncio.gather(*ask(registry, *range(50))) == [*range(50)]
    assert registry.made == [*range(50)]
    assert registry.rounds == 1


async def test_change_that_comes_while_others_are_put_in_force_waits_for_its_own_round() -> None:
    registry = Registry()
    registry.may_hold.clear()
    first = ask(registry, 1)
    while not registry.made:
        await asyncio.sleep(0)
    second = ask(registry, 2)
    registry.may_hold.set()
    await asyncio.gather(*first, *second)
    assert registry.rounds == 2


async def test_exception_goes_to_the_caller_of_its_change() -> None:
    registry = Registry()

    async def conflict() -> int:
        raise Conflict("somebody was faster")

    before, after = ask(registry, 1), asyncio.create_task(registry.writes.make(conflict))
    assert await asyncio.gather(*before, *ask(registry, 2)) == [1, 2]
    with pytest.raises(Conflict):
        await after


async def test_one_that_hangs_may_have_been_made_and_those_behind_it_were_not() -> None:
    registry = Registry()
    registry.may_write.clear()
    hanging, behind = ask(registry, 1, 2, patience=0.2)
    with pytest.raises(MaybeMade, match="may have been made or not: look before you repeat"):
        await hanging
    with pytest.raises(NotMade, match=r"not answered within 0\.2 s: this one was not made"):
        await behind
    registry.may_write.set()
    assert await registry.make(3) == 3
    assert registry.made == [3]


async def test_limit_is_for_waiting_and_making_together() -> None:
    registry = Registry()
    slow = await begin(registry, 1, patience=60)
    started = asyncio.get_running_loop().time()
    with pytest.raises(NotMade):
        await registry.make(2, patience=0.2)
    assert asyncio.get_running_loop().time() - started < 5
    registry.may_write.set()
    assert await asyncio.gather(*slow) == [1]


async def test_change_that_was_made_and_is_not_in_force_in_time_says_so() -> None:
    registry = Registry()
    registry.may_hold.clear()
    with pytest.raises(MadeOnly, match=r"was made\. It is not in force here yet"):
        await registry.make(1, patience=0.2)
    registry.may_hold.set()
    assert await registry.make(2) == 2
    assert registry.in_force == [1, 2]


async def test_change_that_was_made_and_cannot_be_read_back_says_so() -> None:
    registry = Registry()
    registry.failure = RegistryDown("it is gone")
    with pytest.raises(MadeOnly, match=r"was made\. It is not in force here yet: it is gone"):
        await registry.make(1)


async def test_change_that_was_made_and_could_not_be_put_in_force_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = Registry()
    registry.failure = ValueError("unforeseen")
    with pytest.raises(MadeOnly, match=r"was made\. .* the log says more"):
        await registry.make(1)
    assert "unforeseen" in caplog.text


async def test_change_that_was_made_before_the_stop_says_so_at_once() -> None:
    registry = Registry()
    registry.may_hold.clear()
    [made] = ask(registry, 1, patience=60)
    while not registry.made:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    stopped = registry.writes.stop()
    assert stopped
    async with asyncio.timeout(20):
        with pytest.raises(MadeOnly, match="is closed"):
            await made
    await asyncio.wait([stopped])


async def test_number_of_those_that_wait_is_bounded() -> None:
    registry = Registry()
    waiting = await begin(registry, 0)
    waiting += ask(registry, *range(1, WAITING + 1))
    await asyncio.sleep(0)
    with pytest.raises(NotMade, match=f"{WAITING} changes of the registry wait already"):
        await registry.make(-1)
    registry.may_write.set()
    assert await asyncio.gather(*waiting) == [*range(WAITING + 1)]


async def test_change_whose_caller_has_gone_is_not_made() -> None:
    registry = Registry()
    [first] = await begin(registry, 1)
    second, third = ask(registry, 2, 3)
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    registry.may_write.set()
    assert [await first, await third] == [1, 3]
    assert registry.made == [1, 3]


async def test_stop_fails_the_changes_that_wait() -> None:
    registry = Registry()
    [hanging] = await begin(registry, 1, patience=60)
    [waiting] = ask(registry, 2)
    await asyncio.sleep(0)
    stopped = registry.writes.stop()
    assert stopped
    async with asyncio.timeout(20):
        with pytest.raises(NotMade, match="is closed: this one was not made"):
            await waiting
        with pytest.raises(MaybeMade, match="is closed"):
            await hanging
    await asyncio.wait([stopped])
    registry.may_write.set()
    assert await registry.make(3) == 3
