import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.errors import InvalidEntry, RegistryUnavailable, WrongKey
from egress_policy.registry.secrets import Cipher, load_key

CIPHER = Cipher(b"k" * 32)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, texts)
def test_sealed_text_opens_for_its_owner(text: str, owner: str) -> None:
    sealed = CIPHER.seal(text, owner)
    assert sealed.isascii()
    assert CIPHER.open(sealed, owner) == text


def test_text_is_sealed_differently_each_time_and_cannot_be_read() -> None:
    first, second = (CIPHER.seal("s3cret", "row") for _ in range(2))
    assert first != second
    assert "s3cret" not in first


@pytest.mark.parametrize("sealed", ["", None])
def test_nothing_stays_nothing(sealed: str | None) -> None:
    assert CIPHER.seal("", "row") == ""
    assert CIPHER.open(sealed, "row") == ""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: sealed[:-2] + ("AA" if sealed[-2:] != "AA" else "BB"),
        lambda sealed: sealed[:8],
        lambda sealed: sealed.replace("v1:", "v2:"),
        lambda sealed: "v1:",
        lambda sealed: "s3cret",
        lambda sealed: "v1:é",
        lambda sealed: Cipher(b"o" * 32).seal("s3cret", "row"),
        lambda sealed: CIPHER.seal("s3cret", "another row"),
    ],
)
def test_what_was_not_sealed_here_does_not_open(spoil: object) -> None:
    assert callable(spoil)
    spoilt = spoil(CIPHER.seal("s3cret", "row"))
    with pytest.raises(InvalidEntry, match="cannot be decrypted; set it again") as caught:
        CIPHER.open(spoilt, "row")
    assert caught.value.field == "password"
    assert "s3cret" not in str(caught.value)


def test_check_tells_the_key_that_made_it() -> None:
    CIPHER.require(CIPHER.make_check())
    for check in (Cipher(b"o" * 32).make_check(), "", None, "nonsense"):
        with pytest.raises(WrongKey, match="EGRESS_KEY"):
            CIPHER.require(check)


def test_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    confdir = tmp_path / "conf"
    key = load_key(confdir, {"EGRESS_KEY": ""})
    [path] = confdir.iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("egress-key", 0o600)
    assert stat.S_IMODE(confdir.stat().st_mode) == 0o700
    assert load_key(confdir, {}) == key
    assert len(key) == 32
    assert load_key(tmp_path / "other", {}) != key


def test_key_of_the_environment_wins_and_may_be_the_text_of_the_file(tmp_path: Path) -> None:
    key = load_key(tmp_path, {})
    text = (tmp_path / "egress-key").read_text()
    assert load_key(tmp_path / "none", {"EGRESS_KEY": text}) == key
    assert load_key(tmp_path, {"EGRESS_KEY": "a long and secret text"}) != key
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["short", " " * 40, "\n"])
def test_key_that_is_too_short_names_where_it_is_and_is_not_quoted(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "egress-key").write_text(text)
    (tmp_path / "egress-key").chmod(0o600)
    with pytest.raises(InvalidEntry, match=r"egress-key: a key has at least 16 characters"):
        load_key(tmp_path, {})
    with pytest.raises(InvalidEntry, match=r"^EGRESS_KEY: a key has at least") as caught:
        load_key(tmp_path, {"EGRESS_KEY": text})
    assert "short" not in str(caught.value)


def test_all_who_start_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: load_key(tmp_path, {}), range(4)))
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["egress-key"]


def test_key_file_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "egress-key").write_bytes(b"\xff" * 32)
    (tmp_path / "egress-key").chmod(0o600)
    for confdir in (tmp_path / "file", tmp_path):
        with pytest.raises(RegistryUnavailable, match=r"^The key file .*egress-key "):
            load_key(confdir, {})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_key_file_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    load_key(tmp_path, {})
    (tmp_path / "egress-key").chmod(mode)
    with pytest.raises(RegistryUnavailable, match="can be read by others; make its"):
        load_key(tmp_path, {})


def test_key_file_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    load_key(tmp_path / "elsewhere", {})
    (tmp_path / "egress-key").symlink_to(tmp_path / "elsewhere" / "egress-key")
    with pytest.raises(RegistryUnavailable, match="it is a symbolic link"):
        load_key(tmp_path, {})
