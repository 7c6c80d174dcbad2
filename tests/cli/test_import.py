"""Lists of proxies on their way in."""

import io
from pathlib import Path

import pytest

from tests.helpers.shell import SECRET, Shell


def test_list_is_tried_then_imported(shell: Shell, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"# mine\nsocks5://u:{SECRET}@192.0.2.1:1080#one\nnonsense\n")
    out = shell("import", str(listed), "--dry-run", status=1)
    assert out == "1 proxy would be created, 1 skipped, 1 failed\n"
    assert f"{listed}:3: failed: " in shell.err
    assert shell.json("proxies", "list") == []
    report = shell.json("import", str(listed), status=1)
    assert (report["created"], report["failed"]) == (1, 1)
    assert shell("import", str(listed), status=1).startswith("0 proxies created, 2 skipped")


def listed(shell: Shell, *lines: str) -> str:
    file = shell.folder / "list.txt"
    file.write_text("\n".join(lines))
    return str(file)


def test_assumed_type_is_reported_and_can_be_named(shell: Shell) -> None:
    file = listed(shell, "192.0.2.1:1", "192.0.2.2:1:u:p", "https://192.0.2.3")
    out = shell("import", file, "--dry-run").splitlines()
    assert out[1] == "2 lines name no type: taken as socks5; --type http changes that"
    assert shell("import", file, "--type", "http").splitlines()[1].endswith("taken as http")
    types = {one["name"]: one["type"] for one in shell.json("proxies", "list")}
    assert types == {"192.0.2.1:1": "http", "192.0.2.2:1": "http", "192.0.2.3:443": "https"}


def test_equal_errors_are_reported_once(shell: Shell) -> None:
    lines = [f"192.0.2.1:1{number}x" for number in range(2000)]
    shell("import", listed(shell, "socks5://192.0.2.1:1", *lines, "socks5://h:y"), status=1)
    (error,) = shell.err.splitlines()
    assert "lines 2-2002: failed: Invalid proxy port" in error


def test_other_password_is_reported_and_taken_with_update(shell: Shell) -> None:
    shell("import", listed(shell, "http://u:old@192.0.2.1:1#one"))
    file = listed(shell, f"http://u:{SECRET}@192.0.2.1:1#one")
    assert "--update takes those" in shell("import", file, status=1)
    assert f"{file}:1: differs: differs from proxy 'one' only in its password" in shell.err
    assert SECRET not in shell("export", "--secrets")
    assert shell("import", file, "--update").startswith("0 proxies created, 1 updated, 0 skipped")
    assert SECRET not in shell.err
    assert SECRET in shell("export", "--secrets")


def test_list_is_read_from_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO('\ufeffhost,port,notes\r\n192.0.2.1,1,"a\r\nb"\r\n'.encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data, "utf-8"))
    shell("import", "-")
    assert [one["notes"] for one in shell.json("proxies", "list")] == ["a\r\nb"]


def test_missing_file_is_reported(shell: Shell, tmp_path: Path) -> None:
    for extra in ((), ("--omniroute",)):
        shell("import", str(tmp_path / "none"), *extra, status=1)
        assert "none" in shell.err
