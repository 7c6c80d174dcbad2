"""The registry from the command line: each command opens it, changes it, and lets go of it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from egress_policy.cli import main

Capture = pytest.CaptureFixture[str]
SECRET = "hush-hush-7"


class Shell:
    """Runs commands on a registry of its own."""

    def __init__(self, folder: Path, capture: Capture) -> None:
        self.folder, self._capture = folder, capture
        self.err = ""

    def __call__(self, *arguments: str, status: int = 0) -> str:
        assert main([*arguments, "--confdir", str(self.folder)]) == status
        out, self.err = self._capture.readouterr()
        return out

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", status=status))


@pytest.fixture
def shell(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("EGRESS_KEY", "a key for tests, long enough")
    return Shell(tmp_path, capsys)


def test_proxy_is_added_shown_changed_and_removed(shell: Shell) -> None:
    made = shell.json("proxies", "add", "one", "--host", "proxy.example", "--family", "ipv6")
    assert (made["family"], made["port"]) == ("ipv6", 8080)
    shell("proxies", "edit", "one", "--port", "99", "--name", "uno")
    assert shell.json("proxies", "show", "uno")["port"] == 99
    shell("proxies", "disable", "uno")
    assert [one["status"] for one in shell.json("proxies", "list")] == ["inactive"]
    shell("proxies", "enable", "uno")
    assert "proxy.example:99  ipv6    active" in shell("proxies", "list")
    assert shell("proxies", "remove", "uno") == ""
    assert shell.json("proxies", "list") == []


def test_proxy_is_added_by_its_url(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    url = "socks5://u@192.0.2.1:1080?family=ipv4#exit"
    assert SECRET not in shell("proxies", "add", url, "--password-env", "SECRET")
    shown = shell.json("proxies", "show", "exit")
    assert (shown["type"], shown["family"], shown["password"]) == ("socks5", "ipv4", {"set": True})


def test_password_comes_from_environment_or_stdin_never_from_an_argument(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    add = ("proxies", "add", "one", "--host", "192.0.2.1", "--username", "u")
    shell(*add, "--password-env", "SECRET")
    assert SECRET in shell("export", "--secrets")
    assert SECRET not in shell("export")
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    shell("proxies", "edit", "one", "--password-stdin")
    assert "another" in shell("export", "--secrets")
    shell("proxies", "edit", "one", "--password-env", "UNSET_HERE", status=1)
    assert "UNSET_HERE" in shell.err


@pytest.mark.parametrize("entry", ["HOST:1080", "h.example:1080:u:", "n|h.example|1080"])
def test_proxy_without_a_type_is_not_added(shell: Shell, entry: str) -> None:
    shell("proxies", "add", entry.replace("HOST", "h.example"), status=1)
    for scheme in ("http", "https", "socks5"):
        assert f"{scheme}://h.example:1080" in shell.err
    shell("proxies", "add", "h.example:1080", "--type", "https")
    assert [one["type"] for one in shell.json("proxies", "list")] == ["https"]


def test_table_of_proxies_controls_no_terminal(shell: Shell) -> None:
    notes = "a\r\v\f\x85\u2066b"
    texts = ("--region", "\u200b", "--notes", notes)
    shell("proxies", "add", "x\u202ey", "--host", "h.example", *texts)
    shown = shell("proxies", "list") + shell("proxies", "show", "x\u202ey")
    assert "x\\u202ey" in shown
    assert "a\\r\\x0b\\x0c\\x85\\u2066b" in shown
    assert set(shown).isdisjoint("\r\v\f\x85\u2066\u202e\u200b")
    assert shell.json("proxies", "show", "x\u202ey")["notes"] == notes


@pytest.mark.parametrize("entry", ["http://u:{}@192.0.2.1:8080", "192.0.2.1:8080:u:{}"])
def test_password_in_an_argument_is_not_taken(shell: Shell, entry: str) -> None:
    shell("proxies", "add", entry.format(SECRET), status=1)
    assert "--password-env" in shell.err
    assert SECRET not in shell.err
    assert shell.json("proxies", "list") == []


def test_name_without_a_host_is_said(shell: Shell) -> None:
    shell("proxies", "add", "one", status=1)
    assert "--host" in shell.err


@pytest.mark.parametrize("family", ["IPv6", "6", ""])
def test_unknown_family_is_not_understood(shell: Shell, family: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        shell("proxies", "add", "one", "--host", "proxy.example", "--family", family)


def test_contradiction_is_said_in_one_line(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1", "--family", "ipv6", status=1)
    assert shell.err == (
        "egress-policy: Proxy family directive ipv6 contradicts IPv4 literal host\n"
    )


def test_what_is_in_use_is_removed_by_force_alone(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1")
    shell("rules", "add", "one", "--name", "mine", "--host", "*.example.org")
    shell("proxies", "remove", "one", status=1)
    assert "used by: mine" in shell.err
    assert "--force" in shell.err
    shell("proxies", "remove", "one", "--force")
    assert "deleted" in shell("explain", "http://a.example.org/", status=1)


@pytest.mark.parametrize("strategy", ["random", "sticky", "latency", "least-connections"])
def test_a_strategy_that_does_not_work_yet_is_answered_with_those_that_do(
    shell: Shell, strategy: str, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as ended:
        shell("pools", "add", "homes", "--strategy", strategy)
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1].replace("'", "")
    assert told.endswith("(choose from first, round-robin)")


def test_pools_and_rules_and_assignments(shell: Shell) -> None:
    for name in ("one", "two"):
        shell("proxies", "add", name, "--host", "192.0.2.1")
    shell("pools", "add", "homes", "--member", "one", "--member", "two", "--strategy", "first")
    assert shell.json("pools", "show", "homes")["members"] == ["one", "two"]
    shell("pools", "edit", "homes", "--member", "two")
    assert "homes  first     two" in shell("pools", "list")
    shell("rules", "add", "homes", "--name", "a", "--port", "443", "--client", "192.0.2.0/24")
    shell("rules", "add", "refuse", "--name", "b", "--filter", "~m POST", "--before", "a")
    assert [rule["label"] for rule in shell.json("rules", "list")] == ["b", "a"]
    shell("rules", "move", "b", "--last")
    shell("rules", "edit", "a", "--clear", "ports")
    assert shell.json("rules", "show", "a")["ports"] == []
    assert "a     -      192.0.2.0/24" in shell("rules", "list")
    shell("assign", "host", "a.test", "--to", "one")
    assert "host   a.test  one" in shell("assign")
    shell("assign", "host", "a.test", "--clear")
    assert shell.json("assign") == []
    shell("rules", "remove", "a")
    shell("pools", "remove", "homes")
    shell("settings", "--set-default", "refuse")
    assert shell.json("settings")["default"] == "refuse"
    shell("settings", "--set-default", "none")
    assert shell.json("settings")["default"] is None


def test_what_is_not_there_is_said(shell: Shell) -> None:
    for command in (("proxies", "show"), ("pools", "show"), ("rules", "remove")):
        shell(*command, "nobody", status=1)
        assert "no such" in shell.err


def test_entries_of_the_policy_file_are_listed_and_read_only(shell: Shell, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nproxies:\n  - {name: ours, host: 192.0.2.9}\n")
    assert shell.json("proxies", "list", "--policy", str(policy))[0]["source"] == "file"
    shell("proxies", "remove", "ours", "--policy", str(policy), status=1)
    assert "policy file" in shell.err


def test_database_that_is_none_and_wrong_key_are_said(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell("settings", "--set-default", "none")
    monkeypatch.setenv("EGRESS_KEY", "another key, long enough as well")
    shell("proxies", "list", status=1)
    assert "another key" in shell.err
    (tmp_path / "bad.db").write_text("not a database at all, whatever its name" * 50)
    shell("proxies", "list", "--registry", str(tmp_path / "bad.db"), status=1)
    assert "Traceback" not in shell.err
