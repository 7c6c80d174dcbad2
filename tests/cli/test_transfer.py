import io
import stat
from pathlib import Path

import pytest

from tests.cli.test_entries import SECRET, Shell, shell
from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy

__all__ = ["shell"]


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


def test_type_that_lines_lack_is_said_and_can_be_named(shell: Shell) -> None:
    file = listed(shell, "192.0.2.1:1", "192.0.2.2:1:u:p", "https://192.0.2.3")
    out = shell("import", file, "--dry-run").splitlines()
    assert out[1] == "2 lines name no type: taken as socks5; --type http changes that"
    assert shell("import", file, "--type", "http").splitlines()[1].endswith("taken as http")
    types = {one["name"]: one["type"] for one in shell.json("proxies", "list")}
    assert types == {"192.0.2.1:1": "http", "192.0.2.2:1": "http", "192.0.2.3:443": "https"}


def test_equal_errors_are_said_once(shell: Shell) -> None:
    lines = [f"192.0.2.1:1{number}x" for number in range(2000)]
    shell("import", listed(shell, "socks5://192.0.2.1:1", *lines, "socks5://h:y"), status=1)
    (error,) = shell.err.splitlines()
    assert "lines 2-2002: failed: Invalid proxy port" in error


def test_change_of_a_password_is_told_and_taken_with_update(shell: Shell) -> None:
    shell("import", listed(shell, "http://u:old@192.0.2.1:1#one"))
    file = listed(shell, f"http://u:{SECRET}@192.0.2.1:1#one")
    assert "--update takes them" in shell("import", file, status=1)
    assert f"{file}:1: differs: differs from proxy 'one' only in its password" in shell.err
    assert SECRET not in shell("export", "--secrets")
    assert shell("import", file, "--update").startswith("0 proxies created, 1 updated, 0 skipped")
    assert SECRET not in shell.err
    assert SECRET in shell("export", "--secrets")


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


def test_list_is_read_from_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO('\ufeffhost,port,notes\r\n192.0.2.1,1,"a\r\nb"\r\n'.encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data, "utf-8"))
    shell("import", "-")
    assert [one["notes"] for one in shell.json("proxies", "list")] == ["a\r\nb"]


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


def test_file_that_is_not_there_is_said(shell: Shell, tmp_path: Path) -> None:
    for extra in ((), ("--omniroute",)):
        shell("import", str(tmp_path / "none"), *extra, status=1)
        assert "none" in shell.err


def test_test_asks_for_names_and_fails_with_the_proxy(shell: Shell) -> None:
    shell("test", status=1)
    assert "--all" in shell.err
    shell("proxies", "add", "one", "--host", "127.0.0.1", "--port", "1")
    assert "connect_refused" in shell("test", "--all", status=1)
    (result,) = shell.json("test", "one", status=1)
    assert not result["ok"]


async def test_test_goes_through_the_proxy(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    async with Origin() as origin, Socks5Proxy() as proxy:

        def commands() -> None:
            shell("settings", "--set-test-url", origin.url())
            shell("proxies", "add", f"socks5://127.0.0.1:{proxy.port}#one")
            (result,) = shell.json("test", "one")
            assert result["ok"]
            assert result["peer_family"] == "ipv4"

        await asyncio.to_thread(commands)
    assert proxy.accepted == 1
