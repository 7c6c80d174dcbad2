"""Who answers a command: the mitmproxy that runs on the folder, or what lies there."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from egress_policy import default_addons
from egress_policy.cli import main
from egress_policy.management.run_file import RunFile, read_runs
from egress_policy.proxy.addons.api import EgressApi
from tests.helpers.mitm import Mitm
from tests.helpers.scene import part, write_policy

Capture = pytest.CaptureFixture[str]
POLICY: dict[str, Any] = {
    "proxies": [{"name": "exit", "host": "127.0.0.1", "port": 1}],
    "pools": [{"name": "homes", "members": ["exit"]}],
    "rules": [{"hosts": ["*.example"], "use": "exit", "name": "mine"}],
    "default": "refuse",
}
READING = [
    (["explain", "http://www.example/"], 0, "exit: dials 127.0.0.1 port 1"),
    (["explain", "http://other.test/"], 1, "EGRESS_REFUSED default"),
    (["test", "exit"], 1, "connect_refused"),
    (["test", "--all"], 1, "connect_refused"),
    (["proxies", "list"], 0, "exit"),
    (["proxies", "list", "-q", "nothing"], 0, "NAME"),
    (["proxies", "show", "exit"], 0, "used by rule"),
    (["pools", "list"], 0, "homes"),
    (["pools", "show", "homes"], 0, "exit"),
    (["rules", "list"], 0, "mine"),
    (["rules", "show", "mine"], 0, "*.example"),
    (["assign"], 0, "SCOPE"),
    (["settings"], 0, "test_url"),
    (["export"], 0, "http://127.0.0.1:1"),
    (["exits", "list"], 0, "unknown"),
    (["exits", "shared"], 0, "GROUP"),
    (["status"], 0, "policy.yaml"),
]


def mitm_on(
    folder: Path, policy: Path, listen: str = "127.0.0.1:0", registry: Path | None = None
) -> Mitm:
    return Mitm(
        folder,
        *default_addons(),
        egress_policy=str(policy),
        egress_registry=str(registry or folder / "egress.db"),
        egress_listen=listen,
        egress_token_file=str(folder / "a-token"),
        egress_hosts_file="",
    )


def ask(folder: Path, *arguments: str) -> int:
    return main([*arguments, "--confdir", str(folder)])


async def test_mitmproxy_that_runs_answers_all_that_reads(tmp_path: Path, capsys: Capture) -> None:
    policy, folder = write_policy(tmp_path / "policy.yaml", **POLICY), tmp_path / "conf"
    async with mitm_on(folder, policy):
        url = read_runs(folder)[0][0].url
        for arguments, status, answer in READING:
            assert await asyncio.to_thread(ask, folder, *arguments) == status, arguments
            out, err = capsys.readouterr()
            assert answer in out
            about = f"mitmproxy at {url} (policy file {policy}, registry {folder / 'egress.db'})"
            assert err == about + "\n"
        assert await asyncio.to_thread(ask, folder, "proxies", "show", "nobody") == 1
        assert "no such" in capsys.readouterr().err
        await asyncio.to_thread(ask, folder, "token")
        assert capsys.readouterr().out == (folder / "a-token").read_text()
        other = write_policy(tmp_path / "other.yaml", default="direct")
        hypothetical = ["explain", "http://other.test/", "--policy", str(other)]
        assert await asyncio.to_thread(ask, folder, *hypothetical) == 0
        assert f"asked without mitmproxy: policy file {other}, reg" in capsys.readouterr().err
    assert read_runs(folder) == ([], [])
    assert await asyncio.to_thread(ask, folder, "proxies", "list") == 0
    assert capsys.readouterr().err.startswith("no mitmproxy is running: registry alone (")


async def test_listener_at_all_addresses_of_ipv6_is_asked_on_loopback(
    tmp_path: Path, capsys: Capture
) -> None:
    policy, folder = write_policy(tmp_path / "policy.yaml", **POLICY), tmp_path / "conf"
    async with mitm_on(folder, policy, "[::]:0"):
        assert await asyncio.to_thread(ask, folder, "rules", "list") == 0
    assert capsys.readouterr().err.startswith("mitmproxy at http://[::1]:")


async def test_one_that_does_not_answer_is_an_error_and_nothing_else_is_asked(
    tmp_path: Path, capsys: Capture
) -> None:
    policy, folder = write_policy(tmp_path / "policy.yaml", **POLICY), tmp_path / "conf"
    async with mitm_on(folder, policy):
        await asyncio.to_thread(ask, folder, "token", "--new")
        for arguments in (["explain", "http://other.test/"], ["settings", "--set-default", "none"]):
            capsys.readouterr()
            assert await asyncio.to_thread(ask, folder, *arguments) == 1
            assert "does not take the token" in capsys.readouterr().err
        registry = ["--registry", str(folder / "egress.db")]
        assert await asyncio.to_thread(ask, folder, "proxies", "list", *registry) == 0
        assert capsys.readouterr().err.startswith("asked without mitmproxy: registry alone")
    async with mitm_on(folder, policy):
        (path,) = folder.glob("egress-run-*.json")
        path.chmod(0o640)
        assert await asyncio.to_thread(ask, folder, "explain", "http://other.test/") == 1
        assert "may run here that cannot be asked" in capsys.readouterr().err
    async with mitm_on(folder, policy, listen=""):
        assert await asyncio.to_thread(ask, folder, "explain", "http://other.test/") == 1
        assert "its egress_listen is empty" in capsys.readouterr().err
    gone = RunFile()
    gone.write(folder, "http://127.0.0.1:1/", folder / "a-token")
    assert await asyncio.to_thread(ask, folder, "proxies", "list") == 1
    assert "does not answer" in capsys.readouterr().err
    gone.remove()


async def test_what_is_changed_is_changed_where_mitmproxy_keeps_it(
    tmp_path: Path, capsys: Capture
) -> None:
    """Its registry need not be that of the folder, and its policy file has names too."""
    policy, folder = write_policy(tmp_path / "policy.yaml", **POLICY), tmp_path / "conf"
    elsewhere = tmp_path / "elsewhere.db"
    listed = tmp_path / "list"
    listed.write_text("http://192.0.2.7:1#seven\nhttp://127.0.0.1:1#exit\n")
    async with mitm_on(folder, policy, registry=elsewhere):

        async def told(*arguments: str, status: int = 0) -> str:
            capsys.readouterr()
            assert await asyncio.to_thread(ask, folder, *arguments) == status, arguments
            out, err = capsys.readouterr()
            return out + err

        management = part(EgressApi).management
        await told("proxies", "add", "own", "--host", "192.0.2.1", "--family", "ipv4")
        assert "used in the policy file" in await told(
            "proxies", "add", "exit", "--host", "192.0.2.1", status=1
        )
        assert "policy file; change it there" in await told("pools", "remove", "homes", status=1)
        await told("proxies", "edit", "own", "--notes", "edited")
        assert management.proxies.show("own").notes == "edited"
        await told("pools", "add", "two", "--member", "own")
        await told("rules", "add", "own", "--host", "a.test", "--name", "a")
        await told("rules", "add", "two", "--host", "b.test", "--name", "b", "--before", "a")
        assert [one.name for one in management.rules.list().items] == ["mine", "b", "a"]
        await told("rules", "move", "b", "--last")
        assert [one.name for one in management.rules.list().items] == ["mine", "a", "b"]
        await told("assign", "host", "c.test", "--to", "own")
        assert management.assignments.list().items[0].proxy == "own"
        await told("assign", "host", "c.test", "--clear")
        assert management.assignments.list().page.total == 0
        assert "in use" in (await told("proxies", "remove", "own", status=1)).lower()
        await told("proxies", "remove", "own", "--force")
        await told("settings", "--set-default", "direct")
        assert management.settings.show().default == "direct"
        tried = await told("import", str(listed), "--dry-run")
        assert "1 proxy would be created, 1 skipped" in tried
        assert "1 proxy created, 1 skipped" in await told("import", str(listed))
        assert management.proxies.show("seven").host == "192.0.2.7"
        await told("proxies", "disable", "seven", "nobody", status=1)
        assert management.proxies.show("seven").status == "inactive"
        refused = await told("import", str(listed), "--omniroute", status=1)
        assert f"give --registry {elsewhere}" in refused
        listed.write_text("\n".join(["# " + "\N{SNOWMAN}" * 400_000, "http://192.0.2.8:1#eight"]))
        assert "1 proxy created" in await told("import", str(listed))
        listed.write_text("# " + "x" * (8 << 20))
        assert "longer than a mitmproxy takes" in await told("import", str(listed), status=1)
        about = f"mitmproxy at {read_runs(folder)[0][0].url}"
        assert about in await told("settings", "--set-default", "none")
    assert elsewhere.exists()
    assert not (folder / "egress.db").exists()
