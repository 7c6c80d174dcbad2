"""Proxies on their way out, and in again."""

import stat
from pathlib import Path

import pytest

from tests.helpers.shell import SECRET, Shell


@pytest.mark.parametrize("form", ["text", "csv", "json"])
def test_every_format_goes_back_in(
    shell: Shell, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "=1;'+1")
    one = ("--host", "192.0.2.1", "--username", "=u", "--password-env", "SECRET")
    shell("proxies", "add", "one", *one, "--notes", 'a\r\nb\v,;"c', "--status", "inactive")
    shell("proxies", "add", "two", "--host", "192.0.2.1", "--family", "ipv4")
    before = shell("export", "--format", "json", "--secrets")
    secret, plain = shell.folder / "secret", shell.folder / "plain"
    shell("export", "--format", form, "--secrets", "-o", str(secret))
    shell("export", "--format", form, "-o", str(plain))
    assert "0 failed" in shell("import", str(plain), "--update")
    assert "its password is not in this file and stays as it is" in shell.err
    for name in ("one", "two"):
        shell("proxies", "remove", name)
    assert shell("import", str(secret)).startswith("2 proxies created, ")
    assert shell("export", "--format", "json", "--secrets") == before
    for name in ("one", "two"):
        shell("proxies", "remove", name)
    assert shell("import", str(plain)).startswith("2 proxies created, ")
    assert "created: its password is not in this file: it has none now" in shell.err


def test_export_to_a_file_is_for_its_owner(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    shell("proxies", "add", "http://u@192.0.2.1:8080#one", "--password-env", "SECRET")
    out = tmp_path / "out.txt"
    shell("export", "--secrets", "-o", str(out))
    assert SECRET in out.read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    shell("export", "-o", str(tmp_path), status=1)
    assert "cannot be written" in shell.err
