"""What a pool would do, on the command line."""

from pathlib import Path

from egress_policy.cli import main
from tests.helpers.scene import write_policy
from tests.helpers.shell import Capture, Shell

PROXIES = [{"name": f"home-{number}", "host": "192.0.2.1"} for number in (1, 2, 3)]
MEMBERS = ["home-1", {"name": "home-2", "weight": 2}, "home-3"]


def test_shares_and_moved_keys_are_shown(tmp_path: Path, capsys: Capture) -> None:
    pool = {"name": "homes", "members": MEMBERS, "strategy": "sticky"}
    policy = write_policy(tmp_path / "p.yaml", proxies=PROXIES, pools=[pool])
    asked = ["pools", "simulate", "homes", "--flows", "400", "--policy", str(policy)]
    assert main([*asked, "--kill", "home-1"]) == 0
    head, first, second, _, last = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "MEMBER WEIGHT DUE FLOWS SHARE THEN SHARE LOST GAINED"
    assert len(head) < 80
    assert first.split()[:3] == ["home-1", "1", "25.0%"]
    assert second.split()[:3] == ["home-2", "2", "50.0%"]
    assert first.split()[5:7] == ["0", "0.0%"]
    assert first.split()[3] == first.split()[7] != "0"
    assert last == "=> strategy sticky: 400 flows, then as many without home-1"


def test_the_registry_is_asked_and_what_is_not_used_is_named(shell: Shell) -> None:
    for name in ("one", "two"):
        shell("proxies", "add", name, "--host", "192.0.2.1")
    shell("pools", "add", "homes", "--member", "one", "--member", "two")
    shell("proxies", "disable", "two")
    out = shell("pools", "simulate", "homes", "--flows", "7", "--kill", "one")
    assert "=> strategy round-robin: 7 flows, then as many without one" in out
    assert "=> inactive or deleted, so never picked: two" in out
    assert "=> 7 flows refused after the loss: no member is left" in out
    [member] = shell.json("pools", "simulate", "homes", "--flows", "7")["members"]
    assert (member["name"], member["picked"], member["picked_after"]) == ("one", 7, None)


def test_what_cannot_be_simulated_is_said(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1")
    shell("pools", "add", "homes", "--member", "one")
    shell("pools", "simulate", "homes", "--kill", "two", status=1)
    assert "Pool homes has no member 'two'; `pools show` lists its members" in shell.err
    shell("pools", "simulate", "nowhere", status=1)
    assert "There is no such pool. `egress-policy pools list` shows what there is" in shell.err
    shell("pools", "simulate", "homes", "--flows", "0", status=2)
    assert "--flows" in shell.err
