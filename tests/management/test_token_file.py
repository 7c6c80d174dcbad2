import stat
from pathlib import Path

import pytest

from egress_policy.errors import InvalidEntry
from egress_policy.management.token_file import load_token, make_token


def test_token_is_made_for_its_owner_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "egress-token"
    token = load_token(path)
    assert len(token) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_token(path) == token
    make_token(path)
    assert load_token(path) != token
    assert [one.name for one in path.parent.iterdir()] == ["egress-token"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_token_that_others_can_read_or_write_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    load_token(path)
    path.chmod(mode)
    with pytest.raises(InvalidEntry, match="make its mode 0600"):
        load_token(path)


def test_link_folder_and_fifo_are_no_token(tmp_path: Path) -> None:
    load_token(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InvalidEntry, match="symbolic link"):
        load_token(tmp_path / "link")
    with pytest.raises(InvalidEntry, match="not a regular file"):
        load_token(tmp_path)


@pytest.mark.parametrize("text", ["", "short", "x" * 1025, "tab\tin the middle of it", "é" * 20])
def test_text_that_is_no_token_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidEntry, match="holds no token") as caught:
        load_token(path)
    assert caught.value.field == "egress_token_file"


def test_error_names_the_place_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidEntry, match="Not a directory"):
        load_token(tmp_path / "file" / "token")
    with pytest.raises(InvalidEntry, match="cannot be made"):
        make_token(tmp_path / "file" / "token")
