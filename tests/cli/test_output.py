"""What the command line writes controls no terminal, and JSON stays JSON."""

import io
import json

import pytest

from egress_policy.cli.output import say, say_data, say_error, say_json, say_table, warn
from egress_policy.errors import InvalidEntry
from egress_policy.registry.errors import InUse, Ref, Usage
from tests.model.test_text import HIDDEN

Capture = pytest.CaptureFixture[str]
ALL = "".join(HIDDEN).replace("\ud800", "")


def hidden_in(text: str) -> set[str]:
    return set(HIDDEN) & set(text)


def test_tables_and_messages_have_no_hidden_characters(capsys: Capture) -> None:
    say(f"a{ALL}")
    warn(f"a{ALL}")
    say_table(("A", "B", "C"), [(ALL, ("x", ALL), 1.25)])
    say_error(InvalidEntry(f"a{ALL}"))
    say_error(InUse("in use", Usage(pools=(Ref("1", ALL),))))
    out, err = capsys.readouterr()
    assert hidden_in(out) == hidden_in(err) == {"\n"}
    assert (
        len(err.splitlines()) == 7
    )  # with those of ``warn`` and ``say_error``, which may have some
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
