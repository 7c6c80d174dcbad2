"""Which rule decides, and why."""

import json
from pathlib import Path

import pytest

from egress_policy.cli import main
from tests.helpers.scene import write_policy
from tests.helpers.shell import Capture

PROXY = {
    "name": "exit",
    "host": "192.0.2.7",
    "family": "ipv4",
    "password": "s3cret",
    "username": "u",
}


def test_explain_says_which_rule_decides(tmp_path: Path, capsys: Capture) -> None:
    rules = [{"hosts": ["other.example"], "use": "refuse"}, {"use": "exit", "name": "all"}]
    policy = write_policy(tmp_path / "p.yaml", proxies=[PROXY], rules=rules)
    assert main(["explain", "https://www.example.com/x", "--policy", str(policy)]) == 0
    out = capsys.readouterr().out
    assert "#1" in out
    assert "not matched" in out
    assert "=> exit: dials 192.0.2.7 port 8080, family ipv4" in out
    assert "s3cret" not in out


def test_explain_lists_a_hundred_rules_unless_all_are_asked_for(
    tmp_path: Path, capsys: Capture
) -> None:
    rules = [{"hosts": [f"n{number}.example"], "use": "direct"} for number in range(300)]
    policy = write_policy(tmp_path / "p.yaml", rules=rules)
    asked = ["explain", "https://n150.example/", "--policy", str(policy)]
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "... 100 rules before these did not decide"
    assert (len(lines), lines[51].split()[:2]) == (103, ["#151", "matched"])
    assert lines[101] == "... 101 more not reached; --all lists every rule"
    assert main([*asked, "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 302


def test_explain_of_a_refusal_exits_with_1(tmp_path: Path, capsys: Capture) -> None:
    policy = write_policy(tmp_path / "p.yaml", default="refuse")
    assert main(["explain", "https://www.example.com/", "--policy", str(policy)]) == 1
    assert "EGRESS_REFUSED default" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["www.example.com", "http://", "gopher://x/", "http://x:99999/"])
def test_explain_rejects_what_is_no_url(tmp_path: Path, url: str, capsys: Capture) -> None:
    policy = write_policy(tmp_path / "p.yaml")
    assert main(["explain", url, "--policy", str(policy)]) == 1
    assert capsys.readouterr().err


def test_explain_knows_that_socks5_is_switched_off(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENABLE_SOCKS5_PROXY", "false")
    socks5 = {"name": "exit", "type": "socks5", "host": "192.0.2.7"}
    policy = write_policy(tmp_path / "p.yaml", proxies=[socks5], rules=[{"use": "exit"}])
    assert main(["explain", "https://www.example.com/", "--policy", str(policy)]) == 1
    assert "socks5_disabled" in capsys.readouterr().out


def test_explain_honours_the_option_default(tmp_path: Path, capsys: Capture) -> None:
    policy = write_policy(tmp_path / "p.yaml")
    ask = ["explain", "https://www.example.com/", "--policy", str(policy)]
    assert main(ask) == 0
    assert main([*ask, "--default", "refuse"]) == 1
    assert "EGRESS_REFUSED default" in capsys.readouterr().out


def test_explain_evaluates_filters_on_the_request(tmp_path: Path, capsys: Capture) -> None:
    rules = [{"filter": "~m POST & ~hq x-account", "use": "refuse"}]
    policy = write_policy(tmp_path / "p.yaml", rules=rules)
    ask = ["explain", "https://www.example.com/", "--policy", str(policy), "--json"]
    assert main(ask) == 0
    capsys.readouterr()
    assert main([*ask, "--method", "POST", "--header", "X-Account: a"]) == 1
    assert json.loads(capsys.readouterr().out)["rule"] == "#1"
