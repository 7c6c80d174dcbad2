"""What the command line writes controls no terminal, and JSON stays JSON."""

import io
import json
from typing import Any
from unicodedata import east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.cli.output import (
    problem_of,
    progress,
    say,
    say_data,
    say_fields,
    say_json,
    say_problem,
    say_table,
    warn,
)
from egress_policy.errors import InUse, InvalidEntry, Ref, Usage
from tests.model.test_text import HIDDEN

Capture = pytest.CaptureFixture[str]
ALL = "".join(HIDDEN).replace("\ud800", "")


def hidden_in(text: str) -> set[str]:
    return set(HIDDEN) & set(text)


def test_tables_and_messages_have_no_hidden_characters(capsys: Capture) -> None:
    say(f"a{ALL}")
    warn(f"a{ALL}")
    say_table(("A", "B", "C"), [(ALL, ("x", ALL), 1.25)])
    for error in (InvalidEntry(f"a{ALL}"), InUse("in use", Usage(pools=(Ref("1", ALL),)))):
        say_problem(problem_of(error), as_json=False)
    out, err = capsys.readouterr()
    assert hidden_in(out) == hidden_in(err) == {"\n"}
    assert (
        len(err.splitlines()) == 7
    )  # with those of ``warn`` and ``say_problem``, which may have some
    assert len(out.splitlines()) == 4


def test_lone_surrogates_can_be_written(capsys: Capture) -> None:
    say("\ud800")
    assert capsys.readouterr().out == "\\ud800\n"


def test_json_is_ascii_without_controls_and_means_the_same(capsys: Capture) -> None:
    say_json({"name": "".join(HIDDEN)})
    out = capsys.readouterr().out
    assert out.isascii()
    assert hidden_in(out) == {"\n"}
    assert json.loads(out) == {"name": "".join(HIDDEN)}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_data_is_as_it_is_unless_a_terminal_shows_it(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO(newline="")
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    monkeypatch.setattr("sys.stdout", stream)
    say_data(f"a{ALL}\r\nb\n")
    written = stream.getvalue()
    if is_terminal:
        assert hidden_in(written) == {"\n"}
    else:
        assert written == f"a{ALL}\r\nb\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """80 columns wide, as standard output and error."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    return stream


HEAD = ("PROXY", "RESULT", "FAMILY", "ADDRESS", "DNS", "HANDSHAKE", "FIRST BYTE", "REGION", "WHY")
WHY = "the proxy closed the connection before it had answered: it may want credentials"
ROW = (
    "v6-exit" * 4,
    "handshake_failed",
    "ipv6",
    "[2001:db8::1:2:3]:1080",
    3.1,
    None,
    None,
    "",
    WHY,
)


def test_table_on_a_terminal_is_as_wide_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    say_table(HEAD, [ROW, ROW])
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "HANDSHAKE" not in lines[0]  # nothing stands in it
    assert "handshake_f" in lines[1]
    assert "…" in lines[1]
    column = lines[0].index("WHY")
    said = [line[column:] for line in lines]
    assert " ".join(said[1:]) == f"{WHY} {WHY}"  # wrapped, and all of it there


@given(
    rows=st.lists(st.lists(st.text(max_size=90), min_size=5, max_size=5), min_size=1, max_size=4)
)
def test_no_table_of_five_columns_is_wider_than_80(rows: list[list[str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stream = at_terminal(patch)
        say_table(("NAME", "A LONG HEAD", "C", "D", "E"), rows)
    assert max(map(columns, stream.getvalue().splitlines())) <= 80


def columns(line: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in line)


def test_table_that_fits_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    say_table(("A", "B"), [("x" * 70, "")])
    assert terminal.getvalue().splitlines()[1] == f"{'x' * 70}  -"
    say_table(("A", "B"), [("住宅", "1"), ("home", "2")])
    assert terminal.getvalue().splitlines()[-3:] == ["A     B", "住宅  1", "home  2"]


def test_fields_without_a_value_are_left_out_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    entry: dict[str, Any] = {
        "name": "one",
        "notes": "",
        "region": None,
        "tags": [],
        "used_by": 0,
        "on": False,
    }
    say_fields(entry)
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(entry)
    terminal = at_terminal(monkeypatch)
    say_fields(entry)
    said = [line.split() for line in terminal.getvalue().splitlines()[1:]]
    assert said == [["name", "one"], ["used_by", "0"], ["on", "False"]]


def test_table_in_a_pipe_is_whole(capsys: Capture) -> None:
    say_table(HEAD, [ROW])
    head, row = capsys.readouterr().out.splitlines()
    assert "HANDSHAKE" in head
    assert WHY in row


def test_progress_is_for_terminals_and_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = at_terminal(monkeypatch)
    for total in (1, 3):
        with progress(total, "testing") as step:
            for _ in range(total):
                step()
        assert ("testing" in terminal.getvalue()) is (total > 1)


def test_progress_elsewhere_is_silent(capsys: Capture) -> None:
    with progress(3, "testing") as step:
        step()
    assert capsys.readouterr() == ("", "")
