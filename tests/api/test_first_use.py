"""What is made at its first use: once, in a thread, and again only some time after a failure."""

import asyncio
import contextlib
import errno
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from egress_policy.api.first_use import RETRY, FirstUse
from egress_policy.api.problems import Problem
from tests.helpers.clock import Clock


class Works:
    """Counts calls, each of which waits until ``gate`` is set. Raises while ``error`` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.error: Exception | None = None
        self.calls: list[threading.Thread] = []

    def __call__(self) -> list[str]:
        self.calls.append(threading.current_thread())
        assert self.gate.wait(20)
        if self.error:
            raise self.error
        return ["made"]


async def test_all_who_wait_get_the_same_which_another_thread_made_once() -> None:
    works = Works()
    first_use = FirstUse("it", works)
    waiting = [asyncio.create_task(first_use.get()) for _ in range(100)]
    await asyncio.sleep(0)
    works.gate.set()
    found = await asyncio.gather(*waiting, first_use.get())
    assert all(one is found[0] for one in found)
    [thread] = works.calls
    assert thread is not threading.current_thread()


async def test_a_caller_that_goes_stops_nothing() -> None:
    works = Works()
    first_use = FirstUse("it", works)
    gone, stays = (asyncio.create_task(first_use.get()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    works.gate.set()
    assert await stays == ["made"]
    assert len(works.calls) == 1


async def test_a_failure_is_logged_once_and_holds_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    works, clock = Works(), Clock()
    first_use = FirstUse("the page", works, clock=clock)
    works.gate.set()
    works.error = ImportError("no module named h99")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(Problem, match="the log says why") as raised:
                await first_use.get()
            assert raised.value.status == 500
    [record] = caplog.records
    assert "the page cannot be loaded" in record.message
    assert "restart it" in record.message
    assert "h99" in caplog.text

    clock.now += RETRY - 0.1
    works.error = None
    with pytest.raises(Problem):
        await first_use.get()
    assert len(works.calls) == 1

    clock.now += 0.1
    assert await first_use.get() == ["made"]
    assert len(works.calls) == 2


async def test_without_descriptors_it_is_made_from_the_reserve() -> None:
    spare = 0

    @contextlib.contextmanager
    def spared() -> Iterator[None]:
        nonlocal spare
        spare += 1
        yield
        spare -= 1

    threads = []

    def make() -> str:
        threads.append(threading.current_thread())
        if not spare:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return "made"

    first_use = FirstUse("it", make, spared)
    assert await first_use.get() == "made"
    assert spare == 0
    assert len(threads) == 2
    assert threads[1] is threading.current_thread()


async def test_another_error_of_the_system_does_not_use_the_reserve() -> None:
    def fail() -> None:
        raise FileNotFoundError(errno.ENOENT, "gone")

    with pytest.raises(Problem) as raised:
        await FirstUse("it", fail, pytest.fail).get()
    assert isinstance(raised.value.__cause__, FileNotFoundError)
