"""How proxies fare."""

from pathlib import Path

import pytest

from tests.helpers.origin import Origin
from tests.helpers.proxies import Socks5Proxy
from tests.helpers.shell import Shell


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
