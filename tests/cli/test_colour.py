"""Colours: for whom they are, and that they change no width and no answer for a program."""

import io
import json
import re

import pytest

from egress_policy.cli.colour import Painted, want
from egress_policy.cli.output import say, say_table
from tests.helpers.shell import Shell

ESCAPE = "\x1b["


class Stream(io.StringIO):
    is_terminal = True

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.mark.parametrize(
    ("asked", "is_terminal", "environ", "coloured"),
    [
        (None, True, {}, True),
        (None, False, {}, False),
        (None, True, {"NO_COLOR": "1"}, False),
        (None, True, {"NO_COLOR": ""}, True),
        (None, True, {"TERM": "dumb"}, False),
        (True, False, {"NO_COLOR": "1"}, True),
        (False, True, {}, False),
    ],
)
def test_who_gets_colours(
    asked: bool | None,
    is_terminal: bool,
    environ: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Stream()
    stream.is_terminal = is_terminal
    monkeypatch.setattr("sys.stdout", stream)
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    want(asked)
    try:
        say("plain ", Painted("bad\x1b[2J", "bad"), Painted("", "good"), Painted("none", None))
    finally:
        want(None)
    bad = f"{ESCAPE}31mbad\\x1b[2J{ESCAPE}0m" if coloured else "bad\\x1b[2J"
    assert stream.getvalue() == f"plain {bad}none\n"


@pytest.mark.parametrize("last", ["-", "short", "a long text that is wrapped " * 4])
def test_table_has_the_same_columns_with_colours(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    rows: list[list[object]] = [
        ["one", Painted("failed", "bad"), Painted(None, "good"), last],
        ["two", "ok", 1.0, "x"],
    ]
    shown = []
    for coloured in (False, True):
        monkeypatch.setattr("sys.stdout", stream := Stream())
        want(coloured)
        try:
            say_table(("NAME", "RESULT", "TIME", "WHY"), rows)
        finally:
            want(None)
        shown.append(stream.getvalue())
    assert shown[0] != shown[1]
    assert shown[0] == re.sub(r"\x1b\[\d+m", "", shown[1])
    assert not any(line.endswith(" ") for line in shown[0].splitlines())


def test_options_decide_for_one_command_and_its_errors(shell: Shell) -> None:
    assert ESCAPE in shell("proxies", "list", "--color")
    assert ESCAPE not in shell("proxies", "list")
    shell("proxies", "show", "nobody", "--color", status=1)
    assert ESCAPE in shell.err
    assert json.loads(shell("proxies", "list", "--color", "--json")) == []
