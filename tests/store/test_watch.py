import asyncio
import logging
import os
from pathlib import Path

import pytest

from egress_policy.store.watch import PolicyWatcher


class Watched:
    """A policy file with a watcher on it; ``heard`` is what it told."""

    def __init__(self, folder: Path, interval: float = 0.5) -> None:
        self.path = folder / "policy.yaml"
        self.path.write_text("version: 1")
        self.heard: list[str] = []
        self.watcher = PolicyWatcher(
            self.path,
            lambda: self.heard.append(self.path.read_text()),
            lambda: self.heard.append("gone"),
            interval,
        )

    def poll(self, times: int = 1) -> list[str]:
        for _ in range(times):
            self.watcher.poll()
        heard, self.heard[:] = list(self.heard), []
        return heard


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_file_that_does_not_change_is_not_told(watched: Watched) -> None:
    assert watched.poll(5) == []


def test_change_is_told_once_and_only_when_it_has_come_to_rest(watched: Watched) -> None:
    watched.path.write_text("ver")
    assert watched.poll() == []
    watched.path.write_text("version: 1 # half")
    assert watched.poll() == []
    watched.path.write_text("version: 1 # whole")
    assert watched.poll() == []
    assert watched.poll(4) == ["version: 1 # whole"]


def test_replacement_by_rename_is_a_change_even_with_equal_size_and_time(watched: Watched) -> None:
    other = watched.path.with_name("new.yaml")
    other.write_text("Version: 1")
    stat = watched.path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.rename(watched.path)
    assert watched.poll(2) == ["Version: 1"]


def test_file_that_goes_is_told_once_and_its_return_is_a_change(watched: Watched) -> None:
    watched.path.unlink()
    assert watched.poll(4) == ["gone"]
    watched.path.write_text("version: 1 # back")
    assert watched.poll(2) == ["version: 1 # back"]


def test_file_that_is_away_for_one_poll_is_not_told(watched: Watched) -> None:
    away = watched.path.rename(watched.path.with_name("away.yaml"))
    assert watched.poll() == []
    away.rename(watched.path)
    assert watched.poll(3) == []


async def test_task_polls_survives_a_bad_call_and_ends_with_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    called = asyncio.Event()
    calls: list[int] = []

    def fail_once() -> None:
        calls.append(1)
        if len(calls) == 1:
            path.write_text("version: 1 # third")
            raise RuntimeError("no")
        called.set()

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
