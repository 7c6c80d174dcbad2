"""The commands: what is in force, and reading the policy file again."""

from pathlib import Path

import pytest
from mitmproxy.exceptions import CommandError

from egress_policy import default_addons
from egress_policy.version import VERSION
from tests.helpers.mitm import Mitm
from tests.helpers.scene import egress, write_policy

EXITS = [{"name": name, "host": "192.0.2.1", "password": "s3cret"} for name in ("one", "two")]


def status(mitm: Mitm) -> dict[str, str]:
    heading, *rows = mitm.master.commands.execute("egress.status")
    assert heading == ["name", "value"]
    return {str(name): str(value) for name, value in rows}


async def test_status_says_what_is_in_force(tmp_path: Path) -> None:
    rules = [{"hosts": ["a.test"], "use": "one"}]
    async with egress(tmp_path, proxies=EXITS, rules=rules, default="refuse") as mitm:
        assert status(mitm) == {
            "state": "in force",
            "policy": f"egress policy {VERSION}: {tmp_path / 'policy.yaml'}, "
            "2 proxies, 1 rule, default refuse",
            "default": "refuse",
            "proxies": "one, two",
            "last reload": "good",
        }


async def test_status_without_a_policy_file(tmp_path: Path) -> None:
    async with Mitm(tmp_path, *default_addons()) as mitm:
        told = status(mitm)
        assert "no policy file, 0 proxies, 0 rules, default direct" in told["policy"]
        assert told["proxies"] == "none"


async def test_status_says_why_nothing_is_in_force(tmp_path: Path) -> None:
    mitm = Mitm(tmp_path, *default_addons(), expect_errors=True, egress_default="maybe")
    async with mitm:
        told = status(mitm)
        assert "egress_default" in told["state"]
        assert told["default"] == "refuse"


async def test_reload_takes_an_edit_at_once(tmp_path: Path) -> None:
    async with egress(tmp_path, default="direct") as mitm:
        write_policy(tmp_path / "policy.yaml", proxies=EXITS, default="refuse")
        mitm.master.commands.execute("egress.reload")
        assert status(mitm)["default"] == "refuse"
        assert status(mitm)["proxies"] == "one, two"


async def test_reload_of_a_broken_file_says_where_and_keeps_the_last_good_policy(
    tmp_path: Path,
) -> None:
    async with egress(tmp_path, default="direct") as mitm:
        (tmp_path / "policy.yaml").write_text("version: 1\nproxys: []\n")
        with pytest.raises(CommandError, match=r"policy\.yaml:2: proxys: unknown key"):
            mitm.master.commands.execute("egress.reload")
        assert status(mitm)["default"] == "direct"
        assert status(mitm)["state"] == "in force"
        assert "policy.yaml:2: proxys: unknown key" in status(mitm)["last reload"]
        write_policy(tmp_path / "policy.yaml", default="refuse")
        mitm.master.commands.execute("egress.reload")
        assert status(mitm)["last reload"] == "good"


async def test_reload_without_a_policy_file_says_so(tmp_path: Path) -> None:
    async with Mitm(tmp_path, *default_addons()) as mitm:
        with pytest.raises(CommandError, match="egress_policy names no file"):
            mitm.master.commands.execute("egress.reload")


async def test_commands_show_no_secret(tmp_path: Path) -> None:
    async with egress(tmp_path, proxies=EXITS) as mitm:
        assert "s3cret" not in str(mitm.master.commands.execute("egress.status"))
