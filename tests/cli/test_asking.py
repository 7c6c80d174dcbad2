"""The command line: exit status, and messages that say what to do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from egress_policy.cli import main
from tests.helpers.scene import write_policy

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


PROXY = {
    "name": "exit",
    "host": "192.0.2.7",
    "family": "ipv4",
    "password": "s3cret",
    "username": "u",
}


def test_script_prints_a_file_that_exists(capsys: Capture) -> None:
    assert main(["script"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.name == "egress.py"
    assert path.is_file()


def test_check_counts_what_is_in_a_good_file(tmp_path: Path, capsys: Capture) -> None:
    policy = write_policy(tmp_path / "p.yaml", proxies=[PROXY], rules=[{"use": "exit"}])
    assert main(["check", str(policy)]) == 0
    assert "good. 1 proxy, 0 pools, 1 rule, default direct" in capsys.readouterr().out


def test_check_names_file_line_and_key_of_what_is_wrong(tmp_path: Path, capsys: Capture) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nrules:\n  - use: nobody\n  - {use: direct, filter: '~zz'}\n")
    assert main(["check", str(policy)]) == 1
    errors = capsys.readouterr().err
    assert f"{policy}:3: rules[0].use: " in errors
    assert f"{policy}:4: rules[1].filter: " in errors


def test_check_of_a_missing_file_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    assert main(["check", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err


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


def test_an_unknown_command_exits_with_2(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["conquer"])
    assert "usage: egress-policy" in capsys.readouterr().err


def test_explain_knows_that_socks5_is_switched_off(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENABLE_SOCKS5_PROXY", "false")
    socks5 = {"name": "exit", "type": "socks5", "host": "192.0.2.7"}
    policy = write_policy(tmp_path / "p.yaml", proxies=[socks5], rules=[{"use": "exit"}])
    assert main(["explain", "https://www.example.com/", "--policy", str(policy)]) == 1
    assert "socks5_disabled" in capsys.readouterr().out


def test_explain_honours_the_default_that_the_option_states(
    tmp_path: Path, capsys: Capture
) -> None:
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


def test_check_answers_in_json(tmp_path: Path, capsys: Capture) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nrules:\n  - use: nobody\n")
    assert main(["check", str(policy), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["line"], problem["key"]) == (3, "rules[0].use")


def test_token_is_printed_and_made_anew(tmp_path: Path, capsys: Capture) -> None:
    ask = ["token", "--confdir", str(tmp_path)]
    assert main(ask) == 1
    assert "token --new" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main([*ask, "--new"]) == main(ask) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second
    assert main([*ask, "--new"]) == 0
    assert capsys.readouterr().out.strip() != first


def test_path_of_the_script_is_found_without_mitmproxy_or_database() -> None:
    program = (
        "import sys; from egress_policy.cli import main; main(['script']); "
        "print([m for m in ('mitmproxy', 'sqlalchemy', 'tornado') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[1] == "[]"
