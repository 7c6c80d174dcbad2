import asyncio
import socket
import subprocess
import sys
import threading
import time

import pytest

from egress_policy.threads import AT_ONCE, Executor, Threads, TooManyHang


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


async def test_loop_has_threads_for_all_that_hang_and_the_rest_waits_for_its_turn() -> None:
    executor, release = Executor("test", at_once=3), threading.Event()
    asyncio.get_running_loop().set_default_executor(executor)
    hanging = [asyncio.create_task(asyncio.to_thread(release.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    numbers = await asyncio.gather(*(asyncio.to_thread(int, one) for one in range(50)))
    assert numbers == list(range(50))
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 // 0)
    hanging.append(asyncio.create_task(asyncio.to_thread(release.wait)))
    late = asyncio.create_task(asyncio.to_thread(lambda: "late"))
    dropped = asyncio.create_task(asyncio.to_thread(lambda: pytest.fail("it was given up")))
    await asyncio.sleep(0)
    dropped.cancel()
    await asyncio.wait({dropped})
    assert not late.done()
    release.set()
    assert await late == "late"
    assert all(await asyncio.gather(*hanging))


async def test_look_ups_that_hang_hold_up_no_other_call(monkeypatch: pytest.MonkeyPatch) -> None:
    release, loop = threading.Event(), asyncio.get_running_loop()
    loop.set_default_executor(Executor("test", at_once=2))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [release.wait()][1:])
    hanging = [asyncio.create_task(loop.getaddrinfo("a.test", 80)) for _ in range(5)]
    await asyncio.sleep(0)
    assert await asyncio.to_thread(lambda: "another") == "another"
    assert not any(one.done() for one in hanging)
    release.set()
    assert await asyncio.gather(*hanging) == [[]] * 5


PROGRAM = """
import asyncio, threading
from egress_policy.threads import Executor, Threads
async def main():
    asyncio.get_running_loop().set_default_executor(Executor("test"))
    asyncio.create_task({hangs})
    await asyncio.sleep(0.1)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "hangs",
    [
        'Threads("test").run(threading.Event().wait)',
        "asyncio.to_thread(threading.Event().wait)",
    ],
)
def test_process_ends_whatever_hangs(hangs: str) -> None:
    started = time.monotonic()
    program = PROGRAM.format(hangs=hangs)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
    assert time.monotonic() - started < 3
