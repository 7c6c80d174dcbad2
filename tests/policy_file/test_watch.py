import asyncio
import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from egress_policy.files.stamp import Stamp
from egress_policy.policy_file import watch
from egress_policy.policy_file.parse import MOMENT
from egress_policy.policy_file.watch import PolicyWatcher


class Watched:
    """A policy file with a watcher; ``heard`` lists its calls. ``failures`` counts the next
    attempts to read the file that fail."""

    def __init__(self, folder: Path, interval: float = 0.5) -> None:
        self.path = folder / "policy.yaml"
        self.path.write_text("version: 1")
        self.heard: list[str] = []
        self.failures = 0
        self.watcher = PolicyWatcher(
            self.path, self._read, lambda: self.heard.append("gone"), interval
        )

    async def _read(self) -> bool:
        if self.failures:
            self.failures -= 1
            self.heard.append("failed")
            return False
        self.heard.append(self.path.read_text())
        return True

    async def poll(self, times: int = 1) -> list[str]:
        for _ in range(times):
            await self.watcher.poll()
        heard, self.heard[:] = list(self.heard), []
        return heard


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def test_unchanged_file_causes_no_call(watched: Watched) -> None:
    assert await watched.poll(5) == []


async def test_change_causes_one_call_once_it_has_settled(watched: Watched) -> None:
    watched.path.write_text("ver")
    assert await watched.poll() == []
    watched.path.write_text("version: 1 # half")
    assert await watched.poll() == []
    watched.path.write_text("version: 1 # whole")
    assert await watched.poll() == []
    assert await watched.poll(4) == ["version: 1 # whole"]


async def test_change_that_was_seen_is_looked_at_again_sooner(watched: Watched) -> None:
    assert watched.watcher.next_look == 0.5
    watched.path.write_text("version: 1 # new")
    watched.failures = 1
    assert await watched.poll() == []
    assert watched.watcher.next_look == MOMENT
    assert await watched.poll() == ["failed"]
    assert watched.watcher.next_look == 0.5


async def test_replacement_by_rename_is_a_change_even_with_equal_size_and_time(
    watched: Watched,
) -> None:
    other = watched.path.with_name("new.yaml")
    other.write_text("Version: 1")
    stat = watched.path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.rename(watched.path)
    assert await watched.poll(2) == ["Version: 1"]


async def test_missing_file_causes_one_call_and_its_return_is_a_change(watched: Watched) -> None:
    watched.path.unlink()
    assert await watched.poll(4) == ["gone"]
    watched.path.write_text("version: 1 # back")
    assert await watched.poll(2) == ["version: 1 # back"]


async def test_file_that_is_missing_for_one_poll_does_not_count_as_missing(
    watched: Watched,
) -> None:
    away = watched.path.rename(watched.path.with_name("away.yaml"))
    assert await watched.poll() == []
    away.rename(watched.path)
    assert "gone" not in await watched.poll(3)


async def test_edit_that_keeps_size_and_time_is_noticed(watched: Watched) -> None:
    before = watched.path.stat().st_mtime_ns
    watched.path.write_text("version: 2")
    os.utime(watched.path, ns=(before, before))
    assert await watched.poll(3) == ["version: 2"]


async def test_failed_call_is_repeated_at_growing_intervals(
    watched: Watched,
) -> None:
    watched.path.write_text("version: 1 # new")
    watched.failures = 6
    times = [number for number in range(60) if await watched.poll()]
    assert times == [1, 2, 4, 8, 16, 32, 48]
    assert await watched.poll(40) == []  # the seventh was good


async def test_new_version_does_not_wait_for_the_interval(watched: Watched) -> None:
    watched.path.write_text("version: 1 # new")
    watched.failures = 3
    assert await watched.poll(6) == ["failed", "failed", "failed"]
    watched.path.write_text("version: 1 # newer")
    assert await watched.poll(2) == ["version: 1 # newer"]


async def test_try_again_causes_a_call_without_a_change(
    watched: Watched,
) -> None:
    watched.watcher.try_again()
    assert await watched.poll(3) == ["version: 1"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
async def test_file_that_cannot_be_looked_at_is_not_taken_for_gone(
    watched: Watched, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> os.stat_result:
        raise OSError(number, os.strerror(number))

    watched.failures = 1
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        assert await watched.poll(2) == ["failed"]
    assert await watched.poll(2) == ["version: 1"]


async def test_task_polls_survives_a_bad_call_and_ends_with_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    called = asyncio.Event()
    calls: list[int] = []

    async def fail_once() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no")
        called.set()
        return True

    path = tmp_path / "policy.yaml"
    path.write_text("version: 1")
    watcher = PolicyWatcher(path, fail_once, calls.clear, interval=0)
    path.write_text("version: 1 # second")
    with caplog.at_level(logging.ERROR):
        watcher.start()
        await asyncio.wait_for(called.wait(), 5)
    assert "could not be handled" in caplog.text
    [task] = [task for task in asyncio.all_tasks() if "watch" in task.get_name()]
    watcher.stop()
    watcher.stop()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_file_that_cannot_be_examined_blocks_nothing_and_is_read_later(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a mount that hangs. Reading the file, which has its own limit, gives the cause."""
    hangs, go_on, look = threading.Event(), threading.Event(), watch._stamp

    def hang(path: Path) -> Stamp | None:
        hangs.set()
        assert go_on.wait(20)
        return look(path)

    monkeypatch.setattr(watch, "_stamp", hang)
    monkeypatch.setattr(watch, "_PATIENCE", 0.05)
    watched.failures = 1
    assert await watched.poll(2) == ["failed"]
    assert hangs.is_set()
    monkeypatch.setattr(watch, "_stamp", look)
    go_on.set()
    async with asyncio.timeout(20):
        while not (heard := await watched.poll()):
            await asyncio.sleep(0.01)
    assert heard == ["version: 1"]
