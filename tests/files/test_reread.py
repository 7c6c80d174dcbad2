import errno
import logging
import os
from pathlib import Path

import pytest

from egress_policy.files.reread import Reread


def test_the_file_is_read_once_for_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    reread = Reread(path, Path.read_text)
    assert reread.get() is reread.get()


def test_a_change_is_seen_even_if_the_time_of_the_file_is_not_newer(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("one")
    reread = Reread(path, Path.read_text)
    assert reread.get() == "one"
    other.write_text("two")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert reread.get() == "two"


def test_a_file_that_comes_and_goes_is_read_when_it_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    reread = Reread(path, Path.exists)
    assert not reread.get()
    path.touch()
    assert reread.get()
    path.unlink()
    assert not reread.get()


def test_error_in_the_content_is_raised_and_reading_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("seven")
    numbers = iter(["", "7"])
    reread = Reread(path, lambda _: int(next(numbers)))
    with pytest.raises(ValueError, match="invalid literal"):
        reread.get()
    assert reread.get() == 7


class Reads:
    """Reads a file, or fails if the test has set an error."""

    def __init__(self) -> None:
        self.error = 0

    def __call__(self, path: Path) -> str:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return path.read_text()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_cannot_be_read_keeps_what_it_held_and_is_tried_again(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    path, reads = tmp_path / "file", Reads()
    path.write_text("one")
    reread = Reread(path, reads)
    assert reread.get() == "one"
    path.write_text("another")
    reads.error = number
    with caplog.at_level(logging.INFO):
        assert [reread.get() for _ in range(3)] == ["one"] * 3
        reads.error = 0
        assert [reread.get() for _ in range(2)] == ["another"] * 2
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(" (")[0] for text in said] == [
        f"{path} cannot be read",
        f"{path} can be read again",
    ]


def test_what_was_never_read_is_an_error(tmp_path: Path) -> None:
    path, reads = tmp_path / "file", Reads()
    path.write_text("one")
    reread = Reread(path, reads)
    reads.error = errno.EACCES
    for _ in range(2):
        with pytest.raises(PermissionError):
            reread.get()
    reads.error = 0
    assert reread.get() == "one"


def test_what_cannot_be_looked_at_is_not_taken_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    reread = Reread(path, lambda path: path.read_text() if path.exists() else "")
    assert reread.get() == ""
    path.write_text("one")

    def fail(*_: object, **__: object) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        assert reread.get() == ""
    assert reread.get() == "one"


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("whole")
    after = iter(["", "half and whole", ""])

    def read(path: Path) -> str:
        text = path.read_text()
        if more := next(after):
            path.write_text(more)
        return text

    reread = Reread(path, read)
    assert reread.get() == "whole"
    path.write_text("half")
    assert reread.get() == "whole"
    assert reread.get() == "half and whole"
