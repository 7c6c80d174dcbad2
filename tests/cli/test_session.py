"""Reading makes nothing; writing makes a registry where one belongs."""

from pathlib import Path

import pytest

from egress_policy.cli import main
from tests.cli.test_running import READING
from tests.helpers.shell import Capture, Shell


def ask(folder: Path, *arguments: str) -> int:
    return main([*arguments, "--confdir", str(folder)])


@pytest.mark.parametrize(
    "arguments",
    [*(arguments for arguments, _, _ in READING), ["token"], ["doctor", "--name", "localhost"]],
    ids=" ".join,
)
def test_reading_makes_nothing(tmp_path: Path, arguments: list[str], capsys: Capture) -> None:
    folder = tmp_path / "conf"
    assert ask(folder, *arguments) == 1
    out, err = capsys.readouterr()
    assert f"--confdir: {folder} is not a folder" in out + err
    if arguments[0] not in ("token", "doctor"):
        assert main(arguments) == 1  # the default folder is not there either
        assert "There is no registry" in capsys.readouterr().err
    folder.mkdir()
    nothing_there = ask(folder, *arguments)
    named = arguments[0] in ("test", "token") or "show" in arguments
    assert nothing_there == int(named and "--all" not in arguments)
    assert ask(folder, *arguments, "--registry", str(folder / "typo.db")) == int(
        arguments[0] != "doctor"
    )
    assert [*tmp_path.iterdir(), *folder.iterdir()] == [folder]


def test_registry_without_its_key_is_not_given_another(tmp_path: Path, capsys: Capture) -> None:
    assert ask(tmp_path, "settings", "--set-default", "refuse") == 0
    (tmp_path / "egress-key").unlink()
    assert ask(tmp_path, "settings") == 1
    assert "egress-key does not exist" in capsys.readouterr().err
    assert not (tmp_path / "egress-key").exists()


def test_writing_makes_a_registry_in_a_folder_that_is_there_or_the_default(
    tmp_path: Path, capsys: Capture
) -> None:
    adding = ["proxies", "add", "one", "--host", "192.0.2.1"]
    listed = tmp_path / "list"
    listed.write_text("http://192.0.2.1:1\n")
    for writing in (adding, ["import", str(listed)], ["token", "--new"]):
        assert ask(tmp_path / "typo", *writing) == 1
        assert "typo is not a folder" in capsys.readouterr().err
    (there := tmp_path / "there").mkdir()
    assert ask(there, "import", str(listed), "--dry-run") == 0
    assert "1 " in capsys.readouterr().out
    assert list(there.iterdir()) == []
    assert ask(there, *adding) == main(adding) == 0
    assert (there / "egress.db").exists()
    assert (tmp_path / "home/.mitmproxy/egress.db").exists()


def test_broken_database_and_wrong_key_are_reported(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell("settings", "--set-default", "none")
    monkeypatch.setenv("EGRESS_KEY", "another key, long enough as well")
    shell("proxies", "list", status=1)
    assert "another key" in shell.err
    (tmp_path / "bad.db").write_text("not a database at all, whatever its name" * 50)
    shell("proxies", "list", "--registry", str(tmp_path / "bad.db"), status=1)
    assert "Traceback" not in shell.err
