import asyncio
import subprocess
import sys
import threading
import time

import pytest

from egress_policy.threads import AT_ONCE, Threads, TooManyHang


async def test_call_gives_what_it_returns_or_raises() -> None:
    threads = Threads("test")
    assert await threads.run(lambda one, two: one + two, 1, two=2) == 3
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def test_call_that_hangs_holds_up_no_other_and_its_late_result_is_dropped() -> None:
    threads, release, ended = Threads("test"), threading.Event(), threading.Event()

    def hang() -> None:
        release.wait()
        ended.set()
        raise RuntimeError("too late for anybody to hear")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await threads.run(hang)
    assert await threads.run(lambda: "another") == "another"
    release.set()
    assert await threads.run(ended.wait, 10)


async def test_so_many_that_hang_are_enough() -> None:
    threads, release = Threads("test"), threading.Event()
    hanging = [asyncio.create_task(threads.run(release.wait)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyHang):
        await threads.run(release.wait)
    release.set()
    assert all(await asyncio.gather(*hanging))
    assert await threads.run(lambda: "again") == "again"


async def test_what_closes_comes_behind_what_is_under_way() -> None:
    threads, release, done = Threads("test"), threading.Event(), list[str]()

    def use() -> None:
        release.wait()
        done.append("used")

    using = asyncio.create_task(threads.run(use))
    await asyncio.sleep(0)
    closed = asyncio.wrap_future(threads.finish(lambda: done.append("closed")))
    release.set()
    await asyncio.gather(using, closed)
    assert done == ["used", "closed"]


HANGS = """
import asyncio, threading
from egress_policy.threads import Threads
async def main():
    asyncio.create_task(Threads("test").run(threading.Event().wait))
    await asyncio.sleep(0)
asyncio.run(main())
"""


def test_process_ends_whatever_hangs() -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=20)
    assert time.monotonic() - started < 3
