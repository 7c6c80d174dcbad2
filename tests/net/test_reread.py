import os
from pathlib import Path

import pytest

from egress_policy.net.reread import Reread


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


def test_a_failed_read_is_passed_on_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("seven")
    numbers = iter(["", "7"])
    reread = Reread(path, lambda _: int(next(numbers)))
    with pytest.raises(ValueError, match="invalid literal"):
        reread.get()
    assert reread.get() == 7
