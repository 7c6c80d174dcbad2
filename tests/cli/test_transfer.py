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
