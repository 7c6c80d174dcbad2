"""Completion, typed into shells as people do (e2e): each takes the words apart, quotes and inserts
them in its own way. And what each asks and is answered."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from egress_policy.cli import main
from egress_policy.cli.command import COMPLETE
from egress_policy.cli.completion import complete

Capture = pytest.CaptureFixture[str]
EVIL = "w'!\"$(id)`id`"
NAMES = ("two words", "a,b", "x$y", "192.0.2.1:1080 (2)", EVIL)
TYPED = [
    ("rules mo\t", "[rules] [move]"),
    ("proxies list --family=ipv4\t", "[proxies] [list] [--family=ipv4]"),
    ("proxies show tw\ta,\t", "[proxies] [show] [two words] [a,b]"),
    ("proxies show 19\tw\t", f"[proxies] [show] [192.0.2.1:1080 (2)] [{EVIL}]"),
]
TYPED_IN_BASH = [
    ("proxies show two\\ w\tx\t", "[proxies] [show] [two words] [x$y]"),
    ('proxies show "w\t', f"[proxies] [show] [{EVIL}]"),
    ("proxies show 'w\t", f"[proxies] [show] [{EVIL}]"),
    ("proxies show 192.0.2.1:10\t", "[proxies] [show] [192.0.2.1:1080 (2)]"),
]
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(egress-policy completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit; compinit -u -D; eval "$(egress-policy completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "egress-policy completion fish | source"),
}
PROGRAM = """#!/bin/sh
if [ -n "$_EGRESS_POLICY_COMPLETE" ] || [ "$1" = completion ]; then
    exec {python} -m egress_policy.cli "$@"
fi
printf 'GOT'; printf ' [%s]' "$@"; printf ' END\\n'
"""


class ShellAtTerminal:
    """A shell at a terminal, in which ``egress-policy`` prints what it is given."""

    def __init__(self, shell: str, environ: dict[str, str]) -> None:
        program, setup = START[shell]
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execvpe(program[0], program, environ)
        self._seen = ""
        self._send(f"{setup}; echo rea''dy\r")
        self._read_to("ready")

    def run(self, typed: str) -> str:
        """What the command was given for a line."""
        self._send(f"egress-policy {typed}\r")
        self._read_to("GOT ")
        return self._read_to(" END").removesuffix(" END")

    def end(self) -> None:
        os.close(self._terminal)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read_to(self, text: str) -> str:
        deadline = time.monotonic() + 30
        while text not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._terminal], [], [], 1)[0]:
                self._seen += os.read(self._terminal, 65536).decode(errors="replace")
        found, text, self._seen = self._seen.partition(text)
        return found + text


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = tmp_path / "bin/egress-policy"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    make_proxies()
    return {
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(sys.path),
        "TERM": "xterm",
    }


def make_proxies() -> None:
    for name in NAMES:
        assert main(["proxies", "add", name, "--host", "192.0.2.1"]) == 0


@pytest.mark.e2e
@pytest.mark.parametrize("shell", START)
def test_shell_completes_commands_options_values_and_names(
    shell: str, environ: dict[str, str]
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here")
    terminal = ShellAtTerminal(shell, environ)
    try:
        for typed, given in [*TYPED, *(TYPED_IN_BASH if shell == "bash" else [])]:
            assert (typed, terminal.run(typed)) == (typed, given)
    finally:
        terminal.end()


# --- what the shells ask and are answered, without shells

Ask = Callable[..., list[str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Ask:
    """Asks as the script of a shell does, and gives the lines of the answer."""

    def ask(shell: str, **variables: str) -> list[str]:
        for name, text in {COMPLETE: f"{shell}_complete", **variables}.items():
            monkeypatch.setenv(name, text)
        assert main([]) == 0
        return capsys.readouterr().out.splitlines()

    make_proxies()
    capsys.readouterr()
    return ask


@pytest.mark.parametrize(
    ("quote", "word", "current", "name"),
    [
        ("", "tw", "tw", "two words"),
        ("", "two\\ w", "two\\ w", "two words"),
        ("", "192.0.2.1:10", "10", "192.0.2.1:1080 (2)"),
        *[(quote, "w", "w", EVIL) for quote in ("", '"', "'")],
    ],
)
def test_bash_gets_the_rest_of_a_name_in_the_quotes_that_are_open(
    ask: Ask, quote: str, word: str, current: str, name: str
) -> None:
    line = f"egress-policy proxies show {quote}{word}"
    (answer,) = ask("bash", COMP_LINE=line, COMP_CURRENT=current)
    kind, _, rest = answer.partition("\t")
    completed = quote + word.removesuffix(current) + rest + quote
    assert (kind, shown(completed)) == ("plain", name)


def shown(word: str) -> str:
    """What a word of the command line is for a command."""
    run = subprocess.run(["sh", "-c", f"printf %s {word}"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    ("line", "current", "answer"),
    [
        ("rules mo", "mo", ["move"]),
        ("proxies list --family=", "", ["auto", "ipv4", "ipv6"]),
        ("proxies show a,", "a,", ["a,b"]),
    ],
)
def test_bash_gets_commands_values_and_names(
    ask: Ask, line: str, current: str, answer: list[str]
) -> None:
    got = ask("bash", COMP_LINE=f"egress-policy {line}", COMP_CURRENT=current)
    assert got == [f"plain\t{word}" for word in answer]


def test_zsh_gets_names_as_they_are_and_values_with_their_option(ask: Ask) -> None:
    words = "egress-policy proxies show tw"
    assert ask("zsh", COMP_WORDS=words, COMP_CWORD="3")[:2] == ["plain", "two words"]
    words = "egress-policy proxies list --family=ipv6"
    assert ask("zsh", COMP_WORDS=words, COMP_CWORD="3")[:2] == ["plain", "--family=ipv6"]


def test_fish_gets_a_name_with_a_comma_whole(ask: Ask) -> None:
    answer = ask("fish", COMP_WORDS="egress-policy proxies show a,", COMP_CWORD="a,")
    assert answer == ["plain,a,b"]


def test_nothing_is_offered_to_an_unknown_shell() -> None:
    assert complete(click.Group(), "csh_complete") == 1
