"""Pools of the registry."""

import pytest

from tests.helpers.shell import Shell


@pytest.mark.parametrize("strategy", ["random", "sticky", "latency", "least-connections"])
def test_a_strategy_that_does_not_work_yet_is_answered_with_those_that_do(
    shell: Shell, strategy: str
) -> None:
    shell("pools", "add", "homes", "--strategy", strategy, status=2)
    assert f"{strategy!r} is not one of 'first', 'round-robin'." in shell.err


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
