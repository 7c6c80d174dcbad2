"""Subscriptions on the command line, with a running mitmproxy and without."""

import asyncio
from pathlib import Path

import pytest

from tests.cli.test_running import ask, mitm_on
from tests.helpers.lists import ListServer
from tests.helpers.scene import write_policy
from tests.helpers.shell import Capture, Shell

LIST = "socks5://192.0.2.1:1080#a\nvmess://x\n"


async def test_subscription_is_added_looked_at_and_taken(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ListServer(LIST) as server:
        monkeypatch.setenv("LIST_URL", server.url(path="/s3cret"))

        def commands() -> None:
            shell(
                "subscriptions", "add", "seller", "--url", "http://h/", "--url-env", "U", status=2
            )
            shell(
                "subscriptions", "add", "seller", "--url-env", "NONE", "--via", "direct", status=1
            )
            assert "NONE is not in the environment" in shell.err
            added = ("--url-env", "LIST_URL", "--via", "direct", "--tag", "EU", "--type", "http")
            out = shell("subscriptions", "add", "seller", *added)
            assert server.url(path="/") in out
            assert "s3cret" not in out
            head, *rows, counts = shell("subscriptions", "preview", "seller").splitlines()
            assert head.split() == ["CHANGE", "PROXY", "WHY"]
            assert [row.split()[0] for row in rows] == ["created", "failed"]
            assert counts == "preview of seller: 1 created, 1 failed"
            assert shell.json("proxies", "list") == []
            assert shell.json("subscriptions", "refresh", "seller")["created"] == 1
            assert shell.json("proxies", "list", "--tag", "eu")[0]["subscription"] == "seller"
            edited = ("--every-hours", "0", "--type", "none", "--tag", "none")
            changed = shell.json("subscriptions", "edit", "seller", *edited)
            assert (changed["every_hours"], changed["type"], changed["tags"]) == (0, None, [])
            assert "taken 2" in shell("subscriptions", "list")
            shell("subscriptions", "remove", "seller")
            assert shell.json("subscriptions", "list") == []
            assert len(shell.json("proxies", "list")) == 1

        await asyncio.to_thread(commands)


async def test_running_mitmproxy_fetches(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "conf"
    async with ListServer(LIST) as server, mitm_on(folder, write_policy(tmp_path / "p.yaml")):
        for words in (
            ("add", "seller", "--url", server.url(), "--via", "direct"),
            ("preview", "seller"),
            ("refresh", "seller"),
            ("show", "seller"),
        ):
            assert await asyncio.to_thread(ask, folder, "subscriptions", *words) == 0
        failed = ("subscriptions", "refresh", "seler")
        assert await asyncio.to_thread(ask, folder, *failed) == 1
    out, err = capsys.readouterr()
    assert "preview of seller: 1 created, 1 failed" in out
    assert "seller: 1 created, 1 failed" in out
    assert "Did you mean 'seller'?" in err
