"""A backup that was put beside the log of another file is noticed, and nothing else is."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from egress_policy.errors import RegistryUnavailable
from egress_policy.registry import stray_log
from egress_policy.registry.registry import Registry
from egress_policy.registry.stray_log import LogCheck, log_of
from tests.helpers.registry import KEY, edits
from tests.registry.registry_contract import hop

LATER = 60 * 10**9
READ = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM revision')"
Put = Callable[[Path, Path], object]


def filled(path: Path, first: int, count: int, checkpoint_after: int | None = None) -> Registry:
    """An open registry with so many more proxies, all in the log but for what a checkpoint took."""
    registry = Registry.open(str(path), KEY)
    for number in range(first, first + count):
        edits(registry).proxies.create(hop(f"p{number}"))
        if number == checkpoint_after:
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
    return registry


def after_a_crash(registry: Registry, path: Path, folder: Path) -> Path:
    """What a process that was killed leaves of the file and its log."""
    folder.mkdir()
    left = folder / path.name
    for name in (path, log_of(path)):
        subprocess.run(["cp", "-p", str(name), str(folder)], check=True)
    registry.close()
    return left


def copy_over(backup: Path, path: Path) -> None:
    """As ``cp`` does, later than everything that was written."""
    shutil.copyfile(backup, path)
    later = log_of(path).stat().st_mtime_ns + LATER
    os.utime(path, ns=(later, later))


def copy_with_its_time(backup: Path, path: Path) -> None:
    """As ``mv`` does while the registry is open."""
    shutil.copy2(backup, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    place = tmp_path / "backup.db"
    filled(place, 0, 10).close()
    return place


@pytest.fixture
def path(tmp_path: Path, backup: Path) -> Path:
    """A registry that goes on from the backup."""
    place = tmp_path / "egress.db"
    shutil.copy2(backup, place)
    return place


@pytest.mark.parametrize("checkpoint_after", [None, 30])
def test_backup_beside_the_log_of_a_crash_is_not_opened_and_not_changed(
    path: Path, backup: Path, tmp_path: Path, checkpoint_after: int | None
) -> None:
    """Without a checkpoint in between the log would undo the restore; with one it would leave a
    mixture."""
    left = after_a_crash(filled(path, 10, 50, checkpoint_after), path, tmp_path / "left")
    copy_over(backup, left)
    with pytest.raises(RegistryUnavailable, match=r"egress\.db was put beside egress\.db-wal"):
        Registry.open(str(left), KEY)
    assert left.read_bytes() == backup.read_bytes()
    log_of(left).unlink()
    registry = Registry.open(str(left), KEY)
    assert len(registry.load().proxies) == 10
    registry.close()


@pytest.mark.parametrize("put", [copy_over, copy_with_its_time])
def test_backup_that_is_put_there_meanwhile_is_not_written_to(
    put: Put, path: Path, backup: Path
) -> None:
    registry = filled(path, 10, 5)
    put(backup, path)
    for _ in range(2):
        with pytest.raises(RegistryUnavailable, match="was put beside"):
            registry.revision()
    with pytest.raises(RegistryUnavailable, match="was put beside"):
        edits(registry).proxies.create(hop("another"))
    registry.close()
    assert path.read_bytes() == backup.read_bytes()
    log_of(path).unlink()
    path.with_name("egress.db-shm").unlink()
    registry = Registry.open(str(path), KEY)
    assert len(registry.load().proxies) == 10
    registry.close()


def test_restore_that_takes_the_log_away_is_taken_at_once(path: Path, backup: Path) -> None:
    registry = filled(path, 10, 5)
    log_of(path).unlink()
    path.with_name("egress.db-shm").unlink()
    copy_with_its_time(backup, path)
    assert len(registry.load().proxies) == 10
    registry.close()


def test_log_that_somebody_wants_applied_is_applied(
    path: Path, backup: Path, tmp_path: Path
) -> None:
    left = after_a_crash(filled(path, 10, 5), path, tmp_path / "left")
    copy_over(backup, left)
    later = left.stat().st_mtime_ns + LATER
    os.utime(log_of(left), ns=(later, later))
    registry = Registry.open(str(left), KEY)
    assert len(registry.load().proxies) == 15
    registry.close()


@pytest.mark.parametrize("readers", [False, True], ids=["whole", "in part"])
def test_log_that_a_checkpoint_has_copied_is_the_file_s_own(
    path: Path, tmp_path: Path, readers: bool
) -> None:
    """The file is younger than its log then. Who reads keeps a checkpoint from the end of it."""
    registry = filled(path, 10, 5)
    edits(registry).settings.put(
        {"test_url": "http://origin.test/"}
    )  # no later change has its page
    reader = sqlite3.connect(path, isolation_level=None)
    if readers:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM alembic_version").fetchone()
    for number in range(15, 20):
        edits(registry).proxies.create(hop(f"p{number}"))
    checkpoint, before = sqlite3.connect(path), stray_log._image(path)
    _, frames, copied = checkpoint.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert (copied < frames) == readers
    assert stray_log._image(path) != before
    later = log_of(path).stat().st_mtime_ns + LATER
    os.utime(path, ns=(later, later))
    assert not LogCheck(path).is_stray()
    assert registry.revision() == 21
    reader.close()
    checkpoint.close()
    registry.close()


def test_to_look_at_a_file_leaves_the_locks_on_it(path: Path) -> None:
    """A process that closed last would otherwise take the log away under who still uses it."""
    registry = filled(path, 10, 5)
    later = log_of(path).stat().st_mtime_ns + LATER
    os.utime(path, ns=(later, later))
    assert LogCheck(path).is_stray()
    os.utime(log_of(path), ns=(later, later))
    subprocess.run([sys.executable, "-W", "ignore", "-c", READ, str(path)], check=True)
    assert log_of(path).exists()
    registry.close()


@pytest.mark.parametrize("log", [b"", b"short", bytes(32), bytes(200)])
def test_what_is_no_log_is_left_to_sqlite(path: Path, log: bytes) -> None:
    log_of(path).write_bytes(log)
    os.utime(log_of(path), ns=(0, 0))
    assert not LogCheck(path).is_stray()
