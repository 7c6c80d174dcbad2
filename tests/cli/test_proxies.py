"""Proxies of the registry: each command opens it, changes it, and lets go of it."""

import asyncio
import io
from pathlib import Path

import pytest

from tests.cli.test_running import ask, mitm_on
from tests.helpers.scene import write_policy
from tests.helpers.shell import SECRET, Capture, Shell


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


def test_password_is_asked_for_unseen(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(text: str) -> str:
        asked.append(text)
        return SECRET

    monkeypatch.setattr("click.termui.hidden_prompt_func", ask)
    url = "socks5://u@192.0.2.1:1080#one"
    out = shell("proxies", "add", url, "--password-prompt")
    assert SECRET not in out + shell.err
    assert "Password" in asked[0] + shell.err  # click asks with the one or the other
    assert SECRET in shell("export", "--secrets")
    shell("proxies", "edit", "one", "--password-prompt", "--password-stdin", status=2)
    assert "Give at most one of --password-env, --password-stdin" in shell.err


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


def test_name_without_a_host_is_reported(shell: Shell) -> None:
    shell("proxies", "add", "one", status=1)
    assert "--host" in shell.err


@pytest.mark.parametrize("family", ["IPv6", "6", ""])
def test_unknown_family_is_not_understood(shell: Shell, family: str) -> None:
    shell("proxies", "add", "one", "--host", "proxy.example", "--family", family, status=2)


def test_contradiction_is_reported_in_one_line(shell: Shell) -> None:
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


def test_entries_of_the_policy_file_are_listed_and_read_only(shell: Shell, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nproxies:\n  - {name: ours, host: 192.0.2.9}\n")
    assert shell.json("proxies", "list", "--policy", str(policy))[0]["source"] == "file"
    shell("proxies", "remove", "ours", "--policy", str(policy), status=1)
    assert "policy file" in shell.err


def test_proxies_are_tagged_and_found_by_their_tags(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1", "--tag", "EU", "--tag", "fast")
    shell("proxies", "add", "two", "--host", "192.0.2.2", "--tag", "eu", "--region", "de")

    def found(*options: str) -> list[str]:
        return [one["name"] for one in shell.json("proxies", "list", *options)]

    assert found("--tag", "eu") == ["one", "two"]
    assert found("--tag", "EU,fast") == found("-q", "fast") == ["one"]
    assert found("--region", "de") == ["two"]
    assert found("--type", "socks5") == found("--test", "good") == []
    assert found("--test", "none") == ["one", "two"]
    assert shell.json("proxies", "edit", "one", "--tag", "slow")["tags"] == ["slow"]
    assert shell.json("proxies", "edit", "one", "--tag", "none")["tags"] == []
    shell("proxies", "edit", "one", "--tag", "a b", status=1)
    assert "a tag holds no space and no comma" in shell.err


def test_proxy_has_a_limit_and_an_expected_exit(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1", "--exit-enforce", status=1)
    assert "exit_enforce needs an expected exit" in shell.err
    limits = ("--health", "ignore", "--max-connections", "5")
    exits = ("--exit-family", "ipv4", "--exit-in", "192.0.2.0/24", "--exit-in", "198.51.100.7")
    made = shell.json("proxies", "add", "one", "--host", "192.0.2.1", *limits, *exits)
    assert (made["health"], made["max_connections"], made["exit_family"]) == ("ignore", 5, "ipv4")
    assert made["exit_in"] == ["192.0.2.0/24", "198.51.100.7/32"]
    assert shell.json("proxies", "edit", "one", "--exit-enforce")["exit_enforce"] is True
    shell("proxies", "edit", "one", "--exit-in", "2001:db8::/32", status=1)
    assert "2001:db8::/32 is no IPv4 network, but exit_family is ipv4" in shell.err
    changed = shell.json(
        *("proxies", "edit", "one", "--exit-in", "none", "--exit-family", "none"),
        *("--no-exit-enforce", "--max-connections", "0"),
    )
    assert (changed["exit_in"], changed["exit_family"]) == ([], None)
    assert (changed["exit_enforce"], changed["max_connections"]) == (False, 0)


def test_many_are_changed_together_by_name_or_by_tag(shell: Shell) -> None:
    for name, tag in (("one", "eu"), ("two", "eu"), ("three", "us")):
        shell("proxies", "add", name, "--host", "proxy.example", "--tag", tag)
    many = ("proxies", "edit")
    out = shell(*many, "--all-tagged", "EU", "--family", "ipv6", "--status", "inactive")
    assert out == "2 proxies were changed\n"
    assert shell(*many, "three", "--add-tag", "fast") == "1 proxy was changed\n"
    shell(*many, "one", "three", "--add-tag", "new", "--remove-tag", "EU")
    found = {one["name"]: one for one in shell.json("proxies", "list")}
    assert {name: one["tags"] for name, one in found.items()} == {
        "one": ["new"],
        "two": ["eu"],
        "three": ["us", "fast", "new"],
    }
    assert [name for name, one in found.items() if one["family"] == "ipv6"] == ["one", "two"]
    assert [name for name, one in found.items() if one["status"] == "active"] == ["three"]
    assert shell(*many, "--all-tagged", "nowhere", "--region", "x") == "0 proxies were changed\n"


def test_what_cannot_be_changed_with_the_others_is_reported(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "proxy.example", "--tag", "eu")
    out = shell("proxies", "edit", "one", "gone", "--add-tag", "fast", status=1)
    assert out == "1 proxy was changed\n"
    assert "gone" in shell.err
    report = shell.json("proxies", "edit", "gone", "--add-tag", "fast", status=1)
    assert (report["done"], report["failed"][0]["code"]) == (0, "NOT_FOUND")
    for wrong in (
        ("--add-tag", "eu"),
        ("one", "--all-tagged", "eu", "--region", "x"),
        ("one", "--add-tag", "eu", "--name", "uno"),
    ):
        shell("proxies", "edit", *wrong, status=2)
    shell("proxies", "edit", "--all-tagged", "eu", status=1)
    assert "what changes" in shell.err


async def test_running_mitmproxy_changes_many(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "conf"
    async with mitm_on(folder, write_policy(tmp_path / "p.yaml")):
        for words in (
            ("add", "one", "--host", "proxy.example", "--tag", "eu"),
            ("edit", "--all-tagged", "eu", "--add-tag", "fast", "--family", "ipv6"),
            ("list", "--tag", "eu,fast", "--family", "ipv6"),
        ):
            assert await asyncio.to_thread(ask, folder, "proxies", *words) == 0
    out = capsys.readouterr().out
    assert "1 proxy was changed\n" in out
    assert "proxy.example" in out.splitlines()[-1]
