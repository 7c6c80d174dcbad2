"""How members fare, who has which, what happened: asked of a mitmproxy that runs."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from egress_policy.cli import main
from egress_policy.proxy.addons.console import EgressConsole
from tests.cli.test_running import mitm_on
from tests.helpers.scene import part, write_policy
from tests.helpers.shell import Capture, Shell
from tests.management.test_members import fail, pick, policy


@contextlib.asynccontextmanager
async def running(folder: Path, capsys: Capture, **pool: Any) -> AsyncIterator[Any]:
    """The management of a mitmproxy, and a function that runs a command beside it."""
    file = write_policy(folder / "policy.yaml", **policy(**pool))

    async def ask(*words: str, status: int = 0) -> str:
        words = (*words, "--confdir", str(folder / "conf"))
        assert await asyncio.to_thread(main, [*words]) == status
        return capsys.readouterr().out

    async with mitm_on(folder / "conf", file):
        yield part(EgressConsole).management, ask


async def test_members_reset_and_events(tmp_path: Path, capsys: Capture) -> None:
    async with running(tmp_path, capsys) as (management, ask):
        fail(management, "home-2")
        pick(management)
        out = await ask("pools", "members", "homes")
        lines = out.splitlines()
        assert " ".join(lines[0].split()) == "PROXY STATUS STATE CONNS SHARE DUE HOP WHY"
        assert "home-1  active  closed" in lines[1]
        assert "home-2  active  open" in lines[2]
        assert re.search(r"3 x connect_refused; tried in [3-6] s$", lines[2])
        assert lines[-1] == "=> pool homes, strategy round-robin: 2 closed, 1 open"
        only = json.loads(await ask("pools", "members", "homes", "--state", "open", "--json"))
        assert [one["proxy"] for one in only["items"]] == ["home-2"]
        listed = await ask("proxies", "list")
        assert "active  open" in listed
        assert "active  closed" in listed
        assert "3 x connect_refused" in await ask("proxies", "show", "home-2")
        explained = await ask("explain", "http://a.test/")
        assert "=> home-2: dials 192.0.2.2 port 1080, family auto; open: 3 x" in explained
        assert "=> all members: 2 closed, 1 open" in explained
        assert "nothing is picked here" in explained
        assert "1 open" in await ask("status")
        out = await ask("proxies", "reset", "home-2", "home-1")
        assert out.splitlines() == ["home-2: closed, was open", "home-1: closed"]
        assert json.loads(await ask("proxies", "reset", "home-1", "--json"))["was"] == "closed"
        await ask("proxies", "reset", "home-9", status=1)
        lines = (await ask("events", "--proxy", "home-2")).splitlines()
        assert "closed by a person" in lines[1]
        assert "3 x connect_refused" in lines[2]
        assert len((await ask("events", "--limit", "1")).splitlines()) == 2


async def test_leases_are_listed_and_forgotten(tmp_path: Path, capsys: Capture) -> None:
    async with running(tmp_path, capsys, strategy="sticky") as (management, ask):
        for number in range(210):
            pick(management, f"192.0.2.{number}")
        out = await ask("pools", "leases", "homes", "--limit", "3")
        assert len(out.splitlines()) == 5
        assert "=> pool homes, sticky by client for 30 min: 210 leases: " in out
        assert "192.0.2." not in out
        shown = json.loads(await ask("pools", "leases", "homes", "--limit", "500", "--json"))
        assert len(shown["items"]) == 210
        assert await ask("pools", "leases", "homes", "--forget") == (
            "pool homes: 210 leases forgotten\n"
        )
        assert "0 leases" in await ask("pools", "leases", "homes")


async def test_a_pool_that_is_not_sticky_has_no_leases(tmp_path: Path, capsys: Capture) -> None:
    async with running(tmp_path, capsys) as (_, ask):
        out = await ask("pools", "leases", "homes")
        assert "the strategy round-robin has no leases, only sticky has" in out


def test_alone_there_are_no_circuits_to_close(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1")
    shell("pools", "add", "homes", "--member", "one")
    assert "one" in shell("pools", "members", "homes")
    assert "no mitmproxy runs here, so how they fare is not known" in shell.err
    assert shell.json("proxies", "show", "one")["now"] is None
    assert shell("events") == "PROXY  EVENT\n"
    for words in (["proxies", "reset", "one"], ["pools", "leases", "homes", "--forget"]):
        shell(*words, status=1)
        assert "none runs here" in shell.err


@pytest.mark.usefixtures("eighty")
async def test_members_fit_into_80_columns(tmp_path: Path, capsys: Capture) -> None:
    async with running(tmp_path, capsys) as (management, ask):
        fail(management, "home-2")
        out = await ask("pools", "members", "homes")
        assert max(map(len, out.splitlines())) <= 80
        assert "3 x connect_refused" in " ".join(out.split())


@pytest.fixture
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setattr("egress_policy.cli.output._columns", lambda: 80)
