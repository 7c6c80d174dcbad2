"""Pools of the registry."""

import pytest

from tests.helpers.shell import Shell


def test_unknown_strategy_is_answered_with_those_there_are(shell: Shell) -> None:
    shell("pools", "add", "homes", "--strategy", "fastest", status=2)
    assert "'fastest' is not one of 'first', 'round-robin', 'random'" in shell.err


def test_pool_has_all_that_its_options_say(shell: Shell) -> None:
    for name in ("one", "two", "a=3"):
        shell("proxies", "add", name, "--host", "192.0.2.1")
    members = ("--member", "one", "--member", "two=3", "--member", "a=3=1")
    stated = ("--strategy", "sticky", "--sticky-by", "header:X-Account", "--sticky-minutes", "5")
    more = ("--failover", "2", "--seed", "7", "--checks-every", "5m", "--checks-expect", "204")
    urls = ("--checks-url-ipv4", "http://a.test/", "--checks-url-ipv6", "http://b.test/")
    made = shell.json("pools", "add", "homes", *members, *stated, *more, *urls)
    assert made["members"] == ["one", {"name": "two", "weight": 3}, "a=3"]
    assert (made["sticky_by"], made["sticky_minutes"]) == ("header:x-account", 5)
    assert (made["failover"], made["seed"]) == (2, 7)
    checks = {"every": 300, "expect": "204", "members": "down"}
    assert made["checks"] == {
        **checks,
        "url": {"ipv4": "http://a.test/", "ipv6": "http://b.test/"},
    }
    assert "one, two=3, a=3" in shell("pools", "show", "homes")
    assert "homes  sticky    one, two=3, a=3" in shell("pools", "list")
    changed = shell.json(
        *("pools", "edit", "homes", "--checks-members", "all", "--checks-url-ipv4", "none")
    )
    assert changed["checks"] == {
        **checks,
        "members": "all",
        "url": {"ipv4": None, "ipv6": "http://b.test/"},
    }
    changed = shell.json("pools", "edit", "homes", "--checks-url-ipv6", "none", "--seed", "none")
    assert (changed["checks"]["url"], changed["seed"]) == (None, None)
    assert shell.json("pools", "edit", "homes", "--checks-every", "none")["checks"] is None
    changed = shell.json("pools", "edit", "homes", "--checks-members", "all")
    assert changed["checks"] == {"every": 60, "expect": "200-399", "members": "all", "url": None}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--member", "one=0", "weight"),
        ("--member", "onne=2", "Did you mean 'one'?"),
        ("--sticky-by", "port", "client, user, host or header:NAME"),
        ("--failover", "6", "failover"),
        ("--seed", "x", "seed"),
        ("--checks-every", "1d", "such as 60s, 5m or 1h"),
        ("--checks-url-ipv4", "ftp://a.test/", "its scheme must be http"),
    ],
)
def test_what_a_pool_cannot_be_is_said(shell: Shell, option: str, value: str, said: str) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1")
    shell("pools", "add", "homes", option, value, status=1)
    assert said in shell.err
    assert shell.json("pools", "list") == []


def test_pool_is_added_shown_changed_and_removed(shell: Shell) -> None:
    for name in ("one", "two"):
        shell("proxies", "add", name, "--host", "192.0.2.1")
    shell("pools", "add", "homes", "--member", "one", "--member", "two", "--strategy", "first")
    assert shell.json("pools", "show", "homes")["members"] == ["one", "two"]
    shell("pools", "edit", "homes", "--member", "two")
    assert "homes  first     two" in shell("pools", "list")
    shell("rules", "add", "homes", "--name", "mine")
    shell("pools", "remove", "homes", status=1)
    assert "used by: mine" in shell.err
    shell("pools", "remove", "homes", "--force")
    assert shell.json("pools", "add", "a")["members"] == []
    assert shell.json("pools", "remove", "a") == {"success": True}
