"""Files with a secret: made for their owner alone, used only if they still are."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from egress_policy.files.secret_file import SecretFileError, make_secret, read_secret


def test_new_secret_can_be_read_and_stays_unless_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    assert read_secret(path) is None
    make_secret(path)
    text = read_secret(path)
    assert text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    make_secret(path)
    assert read_secret(path) == text
    make_secret(path, replace=True)
    assert read_secret(path) not in (None, text)
    assert [one.name for one in path.parent.iterdir()] == ["secret"]


def _to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.chmod(0o604), "make its mode 0600"),
        (lambda path: path.chmod(0o620), "make its mode 0600"),
        (lambda path: path.write_bytes(b"\xff"), "not UTF-8 text"),
        (lambda path: path.rename(path.parent / "x") and path.symlink_to("x"), "symbolic link"),
        (lambda path: path.unlink() or path.mkdir(), "not a regular file"),
        (_to_fifo, "not a regular file"),
    ],
    ids=["read by others", "written by others", "no text", "link", "folder", "fifo"],
)
def test_what_others_may_know_or_choose_is_not_used(
    tmp_path: Path, spoil: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / "secret"
    make_secret(path)
    spoil(path)
    with pytest.raises(SecretFileError, match=why) as caught:
        read_secret(path)
    assert str(path) in str(caught.value)
    assert str(path) not in caught.value.why


def test_error_names_the_place_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SecretFileError, match="cannot be made"):
        make_secret(tmp_path / "file" / "secret")
