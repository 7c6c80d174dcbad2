"""Whether a policy file is good."""

import json
from pathlib import Path

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


def test_check_counts_what_is_in_a_good_file(tmp_path: Path, capsys: Capture) -> None:
    policy = write_policy(tmp_path / "p.yaml", proxies=[PROXY], rules=[{"use": "exit"}])
    assert main(["check", str(policy)]) == 0
    assert "good. 1 proxy, 0 pools, 1 rule, default direct" in capsys.readouterr().out


def test_check_warns_of_rules_that_never_decide(tmp_path: Path, capsys: Capture) -> None:
    rules = [{"use": "direct"}, {"use": "refuse", "hosts": ["a.test"], "name": "lost"}]
    policy = write_policy(tmp_path / "p.yaml", rules=rules)
    assert main(["check", str(policy)]) == 0
    out = capsys.readouterr().out
    assert "note: rule lost never decides: rule #1 before it matches all that it matches" in out
    assert "note: default never decides" not in out  # a last rule for everything is good style


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


def test_check_answers_in_json(tmp_path: Path, capsys: Capture) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nrules:\n  - use: nobody\n")
    assert main(["check", str(policy), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["line"], problem["key"]) == (3, "rules[0].use")
