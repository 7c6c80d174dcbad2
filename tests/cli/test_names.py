"""Names as arguments: offered to the shell, and recognised when they are mistyped."""

from pathlib import Path

import pytest

from egress_policy.cli import main
from egress_policy.cli.completion import complete
from egress_policy.cli.root import root
from tests.helpers.shell import Capture, Shell


@pytest.mark.parametrize(
    "command",
    [
        "proxies show hom-1",
        "rules add hom-1",
        "rules add direct --before mime",
        "rules move mine --before mime",
        "pools add p --member hom-1",
        "assign global --to hom-1",
        "test hom-1",
        "test hom-1 home-1",
    ],
)
def test_name_that_is_mistyped_is_answered_with_the_one_meant(shell: Shell, command: str) -> None:
    shell("proxies", "add", "home-1", "--host", "127.0.0.1", "--port", "1")
    shell("rules", "add", "home-1", "--name", "mine")
    shell(*command.split(), status=1)
    assert f"Did you mean '{'mine' if 'mime' in command else 'home-1'}'?" in shell.err


def offered(line: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> list[str]:
    """What bash is offered for a line."""
    capsys.readouterr()
    monkeypatch.setenv("COMP_LINE", f"egress-policy {line}")
    monkeypatch.setenv("COMP_CURRENT", line.rpartition(" ")[2])
    assert complete(root, "bash_complete") == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [one.partition("\t")[2] for one in out.splitlines()]


def test_names_are_those_of_the_place_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = ["--confdir", str(tmp_path)]
    for name in ("one", "two", "hid\u202eden"):
        main(["proxies", "add", name, "--host", "192.0.2.1", *place])
    main(["pools", "add", "homes", "--member", "one", *place])
    main(["rules", "add", "homes", "--name", "mine", *place])
    said = " ".join(place)
    for line, names in [
        (f"proxies show {said} ", ["one", "two"]),
        (f"proxies remove {said} one ", ["two"]),
        (f"pools edit {said} homes --member ", ["one", "two"]),
        (f"rules add {said} ", ["direct", "refuse", "one", "two", "homes"]),
        (f"rules move {said} mine --before ", ["mine"]),
        (f"assign host x.test {said} --to t", ["two"]),
        (f"test {said} o", ["one"]),
        ("proxies show --confdir /nowhere ", []),
        ("proxies show ", []),
    ]:
        assert offered(line, monkeypatch, capsys) == names, line
