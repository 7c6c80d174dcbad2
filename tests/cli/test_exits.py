"""Exits on the command line, with a running mitmproxy and without."""

import asyncio
import re
from pathlib import Path
from typing import Any

from egress_policy.management.echo import KEY_FILE, running_echo
from egress_policy.model.settings import parse_listen
from tests.cli.test_running import ask, mitm_on
from tests.helpers.proxies import HttpProxy
from tests.helpers.scene import write_policy
from tests.helpers.shell import Capture, Shell


def test_a_look_needs_names_and_an_echo(shell: Shell) -> None:
    shell("exits", "probe", status=1)
    assert "--all" in shell.err
    shell("proxies", "add", "one", "--host", "127.0.0.1", "--port", "1")
    shell("exits", "probe", "one", status=1)
    assert "one: No echo is set" in shell.err
    shell("settings", "--set-echo-ipv4", "http://127.0.0.1:1/")
    (found,) = shell.json("exits", "probe", "--all", status=1)
    assert (found["proxy"], found["ok"]) == ("one", False)
    assert "cannot connect" in shell("exits", "probe", "one", status=1)
    shell("exits", "probe", "onr", status=1)
    assert "Did you mean 'one'?" in shell.err


async def test_exits_are_looked_at_and_kept_in_the_registry(tmp_path: Path, shell: Shell) -> None:
    listen = parse_listen("127.0.0.1:0")
    async with running_echo(listen, tmp_path / KEY_FILE) as echo, HttpProxy() as proxy:

        def commands() -> list[dict[str, Any]]:
            shell("settings", "--set-echo-ipv4", str(echo.ipv4))
            expected = ("--exit-family", "ipv6")
            shell("proxies", "add", f"http://127.0.0.1:{proxy.port}#one", "--exit-in", "::/0")
            for account in ("ann", "bob"):
                shell("assign", "user", account, "--to", "one", "--group", "accounts")
            assert "127.0.0.1" in shell("exits", "probe", "one")
            shell("proxies", "edit", "one", "--exit-in", "127.0.0.0/8")
            assert "127.0.0.0/8" in shell("exits", "list")
            shell("proxies", "edit", "one", "--exit-in", "::/0", *expected)
            head, row = shell("exits", "list", status=1).splitlines()
            assert head.split() == [
                *("PROXY", "VERDICT", "ADDRESS", "SEEN", "BY", "EXPECTED", "PROBLEM"),
            ]
            assert row.endswith("  a target saw an IPv4 address, and exit_family is ipv6")
            assert re.fullmatch(r"one +unknown +127\.0\.0\.1 +\d+ s +echo +ipv6 ::/0 .*", row)
            assert "accounts" in shell("exits", "shared", status=1)
            (group,) = shell.json("exits", "shared", status=1)["items"]
            assert len(group["users"]) == 2
            found: list[dict[str, Any]] = shell.json("exits", "list", "--proxy", "one", status=1)
            return found

        (found,) = await asyncio.to_thread(commands)
    assert [one["address"] for one in found["exits"]] == ["127.0.0.1"]


async def test_a_running_mitmproxy_looks(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "conf"
    listen = parse_listen("127.0.0.1:0")
    async with running_echo(listen, folder / KEY_FILE) as echo, HttpProxy() as proxy:
        made = {"name": "exit", "host": "127.0.0.1", "port": proxy.port}
        policy = write_policy(tmp_path / "policy.yaml", proxies=[made])
        async with mitm_on(folder, policy):
            setting = ["settings", "--set-echo-ipv4", str(echo.ipv4)]
            assert await asyncio.to_thread(ask, folder, *setting) == 0
            assert await asyncio.to_thread(ask, folder, "exits", "probe", "--all") == 0
            assert await asyncio.to_thread(ask, folder, "exits", "list") == 0
    assert proxy.accepted == 1
    assert capsys.readouterr().out.count("127.0.0.1 ") >= 2
