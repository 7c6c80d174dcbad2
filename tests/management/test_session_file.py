"""Sessions of the page in a file: what a restart finds again, and what it does not."""

import stat
from pathlib import Path

import pytest

from egress_policy.management.session_file import SessionFile, StoredSession
from tests.helpers.clock import Clock

ONE, TWO = StoredSession("a" * 64, 30, 10), StoredSession("b" * 64, 20, 0)


def test_sessions_are_found_again_as_old_as_they_are_by_then(tmp_path: Path) -> None:
    path, day = tmp_path / "conf" / "sessions", Clock()
    first = SessionFile(path, lambda: day.now)
    assert first.load() == []
    assert not path.exists()  # reading makes nothing
    first.save([TWO, ONE])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    day.now += 5
    again = SessionFile(path, lambda: day.now)
    assert again.salt == first.salt
    assert again.load() == [StoredSession(ONE.digest, 35, 15), StoredSession(TWO.digest, 25, 5)]


def test_clock_that_is_set_back_ends_sessions_and_prolongs_none(tmp_path: Path) -> None:
    day = Clock()
    SessionFile(tmp_path / "file", lambda: day.now).save([ONE, TWO])
    day.now -= 5
    assert SessionFile(tmp_path / "file", lambda: day.now).load() == [
        StoredSession(ONE.digest, 25, 5)
    ]


@pytest.mark.parametrize("spoilt", ["mode", "text", "salt", "endless"])
def test_file_that_cannot_be_trusted_is_replaced(
    tmp_path: Path, spoilt: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    before = SessionFile(path)
    before.save([ONE])
    if spoilt == "mode":
        path.chmod(0o644)
    else:
        kept = path.read_text()
        short = kept.replace(before.salt.hex(), "00")
        path.write_text({"text": "[", "salt": short, "endless": kept + " " * 70_000}[spoilt])
    after = SessionFile(path)
    assert (after.load() == []) == (spoilt != "endless")
    assert ("Logins" in caplog.text) == (spoilt != "endless")
    after.save([TWO])
    assert SessionFile(path).load()[0].digest == TWO.digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_nothing_can_be_written_no_ended_session_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    file = SessionFile(path)
    file.save([ONE])
    monkeypatch.setattr("tempfile.mkstemp", full)
    file.save([])
    file.save([])
    assert not path.exists()
    assert caplog.text.count("No space left") == 1
