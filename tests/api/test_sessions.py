"""Sessions outlive a restart, their token and their logout do not."""

from pathlib import Path

from egress_policy.api.sessions import SAVE_AFTER, SESSION_IDLE, SESSION_LIFE, Sessions
from egress_policy.management.session_file import SessionFile
from tests.helpers.clock import Clock


class Runs:
    """Runs of a program one after the other: the time of day goes on, the other clock is anew."""

    def __init__(self, path: Path) -> None:
        self.path, self.day = path, Clock()

    def start(self, token: str = "the token") -> Sessions:
        began = self.day.now
        file = SessionFile(self.path, lambda: self.day.now)
        return Sessions(token, lambda: self.day.now - began, file)


def test_session_goes_on_after_a_restart_until_it_is_too_old(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "file")
    session = runs.start().open([])
    for _ in range(int(SESSION_LIFE / SESSION_IDLE)):
        runs.day.now += SESSION_IDLE - 1
        assert runs.start().use([session.value], session.key)
    runs.day.now += SESSION_IDLE - 1
    assert not runs.start().use([session.value], session.key)


def test_session_that_was_idle_over_a_restart_is_over(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "file")
    session = runs.start().open([])
    runs.day.now += SESSION_IDLE + 1
    assert not runs.start().use([session.value], session.key)


def test_use_is_written_now_and_then(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "file")
    first = runs.start()
    session = first.open([])
    assert runs.path.exists()
    written = runs.path.stat().st_mtime_ns, runs.path.stat().st_ino
    runs.day.now += SAVE_AFTER - 1
    assert first.use([session.value], session.key)
    assert (runs.path.stat().st_mtime_ns, runs.path.stat().st_ino) == written
    runs.day.now += 1
    assert first.use([session.value], session.key)
    runs.day.now += SESSION_IDLE - 1
    assert runs.start().use([session.value], session.key)


def test_logout_and_a_new_token_hold_after_a_restart_too(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "file")
    first = runs.start()
    left, kept = first.open([]), first.open([])
    first.close([left.value])
    second = runs.start()
    assert not second.use([left.value], left.key)
    assert second.use([kept.value], kept.key)
    assert second.open([kept.value]) == kept
    third = runs.start("another token")
    assert not third.use([kept.value], kept.key)
    assert third.open([kept.value]).value != kept.value


def test_file_and_a_cookie_open_nothing_without_the_token(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "file")
    session = runs.start().open([])
    text = runs.path.read_text()
    assert session.value not in text
    assert session.key not in text
    forger = Sessions("", lambda: 0.0, SessionFile(runs.path, lambda: runs.day.now))
    assert forger._key(session.value) != session.key


def test_sessions_stay_bounded_over_restarts(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "file")
    for _ in range(3):
        opened = runs.start()
        sessions = [opened.open([]) for _ in range(40)]
    again = SessionFile(runs.path, lambda: runs.day.now)
    assert len(again.load()) == 64
    assert all(opened.use([one.value], one.key) for one in sessions)
