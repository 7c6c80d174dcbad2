"""The tree as a whole: help, and how what goes wrong is said."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from egress_policy.cli import main
from egress_policy.cli.command import PROGRAM
from egress_policy.cli.root import root
from egress_policy.version import VERSION
from tests.helpers.commands import commands
from tests.helpers.shell import Capture, Shell

COMMANDS = {" ".join(words): command for words, command in commands(root)}


@pytest.mark.parametrize("said", ["", "proxies", "pools", "rules", *COMMANDS])
def test_help_has_an_example_and_fits_80_columns(said: str, capsys: Capture) -> None:
    assert main([*said.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"\n  $ {PROGRAM} {said}" in out
    assert max(map(len, out.splitlines())) <= 80
    assert main([*said.split(), "-h"]) == 0


@pytest.mark.parametrize("said", COMMANDS)
def test_its_examples_are_understood(said: str) -> None:
    lines = re.findall(rf"\$ {PROGRAM} (.*)", COMMANDS[said].epilog or "")
    assert lines
    for line in lines:
        words = shlex.split(line.partition(" >")[0])
        assert " ".join(words).startswith(said)
        COMMANDS[said].make_context(said, words[len(said.split()) :])


def test_version_is_printed(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{VERSION}\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("proxys", "proxies"),
        ("pools lst", "list"),
        ("proxies delete x", "remove"),
        ("rules add x --famly auto", "--family"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_mistyped_is_answered_with_what_was_meant(
    typed: str, meant: str, as_json: bool, capsys: Capture
) -> None:
    assert main([*typed.split(), *(["--json"] if as_json else [])]) == 2
    out, err = capsys.readouterr()
    said = json.loads(out)["detail"] if as_json else err
    assert f"Did you mean '{meant}'?" in said
    assert (err == "") is as_json


@pytest.mark.parametrize(
    ("typed", "is_early"),
    [
        ("--confdir /tmp status", True),
        ("proxies --confdir /tmp list", True),
        ("assign --no-such", False),
        ("status --no-such", False),
    ],
)
def test_an_option_before_its_command_is_shown_its_place(
    typed: str, is_early: bool, capsys: Capture
) -> None:
    assert main(typed.split()) == 2
    assert ("Options come after the command" in capsys.readouterr().err) is is_early


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (
            ["proxies", "list", "--family", "ipv5"],
            2,
            {"code": "USAGE", "errors": [{"field": "family"}]},
        ),
        (["proxies", "show"], 2, {"code": "USAGE", "errors": [{"field": "keys"}]}),
        (["proxies"], 2, {"code": "USAGE"}),
        (["rules", "move", "x"], 2, {"code": "USAGE"}),
        (["proxies", "show", "x"], 1, {"code": "NOT_FOUND"}),
        (
            ["proxies", "add", "x", "--host", "1.2.3.4", "--port", "0"],
            1,
            {"code": "INVALID_ENTRY", "errors": [{"field": "port"}]},
        ),
        (["proxies", "add", "x"], 1, {"code": "INVALID_ENTRY", "errors": [{"field": "host"}]}),
        (
            ["explain", "http://x.test/", "--policy", "/none"],
            1,
            {"code": "INVALID_ENTRY", "errors": [{"field": "file"}]},
        ),
    ],
)
def test_with_json_an_error_is_json_with_its_field(
    arguments: list[str], status: int, problem: dict[str, object], shell: Shell
) -> None:
    found = shell.json(*arguments, status=status)
    assert found["detail"]
    assert all(error.pop("message") for error in found.get("errors", ()))
    assert {key: value for key, value in found.items() if key != "detail"} == problem
    assert "egress-policy:" not in shell.err


def test_what_uses_an_entry_is_in_json_too(shell: Shell) -> None:
    shell("proxies", "add", "one", "--host", "192.0.2.1")
    shell("rules", "add", "one", "--name", "mine")
    problem = shell.json("proxies", "remove", "one", status=1)
    assert problem["code"] == "IN_USE"
    assert problem["usage"]["count"] == 1
    assert [rule["name"] for rule in problem["usage"]["rules"]] == ["mine"]


def test_json_that_is_an_argument_is_not_asked_for(capsys: Capture) -> None:
    assert main(["proxies", "lost", "--", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Did you mean 'list'?" in err


def test_interrupted_command_exits_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Context, "invoke", interrupt)
    assert main(["script"]) == 130
    assert capsys.readouterr().err.strip() == "egress-policy: interrupted"


def test_an_unknown_command_exits_with_2(capsys: Capture) -> None:
    assert main(["conquer"]) == 2
    assert "Usage: egress-policy" in capsys.readouterr().err
