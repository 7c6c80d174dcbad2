import shutil
import subprocess
from pathlib import Path

import pytest

from egress_policy.cli import main
from tests.cli.test_entries import Shell, shell

__all__ = ["shell"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_names_all_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("proxies", "doctor", "enable", "family", "dry-run"):
        assert word in script


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pro"], ["proxies"]),
        (["rules", "mo"], ["move"]),
        (["proxies", "add", "--fam"], ["--family"]),
        (["import", "x", "--dry"], ["--dry-run"]),
    ],
)
def test_bash_completes(
    typed: list[str], offered: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["completion", "bash"])
    words = " ".join(["egress-policy", *typed])
    program = (
        f"{capsys.readouterr().out}\nCOMP_WORDS=({words}); COMP_CWORD={len(typed)}\n"
        'COMPREPLY=(); _egress_policy; echo "${COMPREPLY[@]}"'
    )
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == offered


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_bash_completes_names_of_proxies(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    for name in ("one", "two words", "three"):
        shell("proxies", "add", name, "--host", "h.example", "--username", "u")
    (tmp_path / "answer").write_text(shell("proxies", "list", "--json"))
    program = (
        f"{script}\n"
        f"egress-policy() {{ [ \"$*\" = 'proxies list --json' ] && cat {tmp_path}/answer; }}\n"
        "COMP_WORDS=(egress-policy proxies show ''); COMP_CWORD=3\n"
        '_egress_policy; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert [word for word in ran.stdout.split() if not word.startswith("-")] == ["one", "three"]


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish here")
@pytest.mark.parametrize(
    ("typed", "offered", "kept_back"),
    [
        ("egress-policy pro", "proxies", "pools"),
        ("egress-policy rules mo", "move", "disable"),
        ("egress-policy proxies list --", "--sort", "--force"),
    ],
)
def test_fish_completes(
    typed: str, offered: str, kept_back: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["completion", "fish"])
    program = f"{capsys.readouterr().out}\ncomplete -C '{typed}'"
    ran = subprocess.run(["fish", "-c", program], capture_output=True, text=True, check=True)
    words = [line.partition("\t")[0] for line in ran.stdout.splitlines()]
    assert offered in words
    assert kept_back not in words
