import shutil
import subprocess

import pytest

from egress_policy.cli import main


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
