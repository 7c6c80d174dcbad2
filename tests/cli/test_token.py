"""The token of the management API."""

from pathlib import Path

from egress_policy.cli import main
from tests.helpers.shell import Capture


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
