"""``completion``: scripts by which a shell completes the words of this command.

click has the protocol and the scripts. This module lets names hold spaces, commas and colons: bash
gets a script that quotes them, zsh and fish get small repairs.
"""

import os
import re
from collections.abc import Mapping
from typing import Final, override

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from .command import COMPLETE, PROGRAM, examples
from .output import say

_BASH: Final = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=$'\\t' read -r type value; do
        if [[ $type == plain ]]; then
            COMPREPLY+=("$value")
        else
            compopt -o default
        fi
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_CURRENT="$2" \
        %(complete_var)s=bash_complete "$1")
}
complete -F %(complete_func)s %(prog_name)s
"""
_QUOTING: Final = {
    "": ((re.compile(r"[^\w@%+=:,./-]"), r"\\\g<0>"),),
    "'": ((re.compile("'"), r"'\\''"),),
    '"': ((re.compile(r'[\\"$`]'), r"\\\g<0>"), (re.compile("!"), "\"'!'\"")),
}
"""Characters to escape and their escaped form, by the open quotes: a name is a text of others and
must not end the quotes or run a command."""


class _Bash(BashComplete):
    """Reads the line as it was typed, because bash splits words at each ``:`` and ``=``. A
    completion replaces what bash takes for the current word, which may be part of a longer word."""

    source_template = _BASH

    @override
    def source(self) -> str:
        return self.source_template % self.source_vars()

    @override
    def get_completion_args(self) -> tuple[list[str], str]:
        line, current = os.environ["COMP_LINE"], os.environ["COMP_CURRENT"]
        start, self._quote = _last_word(line)
        word = _unquoted(line[start:])
        value = word.partition("=")[2] if word.startswith("--") and "=" in word else word
        self._kept = len(value) - len(_unquoted(self._quote + current))
        return split_arg_string(line[:start])[1:], word

    @override
    def format_completion(self, item: CompletionItem) -> str:
        rest = item.value[max(self._kept, 0) :]
        for special, form in _QUOTING[self._quote]:
            rest = special.sub(form, rest)
        return f"{item.type}\t{rest}"


def _last_word(line: str) -> tuple[int, str]:
    """Where the word starts that is being typed, and the quotes that are open in it."""
    start, quote, escaped = 0, "", False
    for index, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            start = index + 1
    return start, quote


def _unquoted(word: str) -> str:
    return "".join(split_arg_string(word))


class _Zsh(ZshComplete):
    """Keeps ``--option=``, which is part of the word that a completion replaces."""

    @override
    def get_completion_args(self) -> tuple[list[str], str]:
        args, word = super().get_completion_args()
        name, equals, _ = word.partition("=")
        self._kept = name + equals if equals and name.startswith("--") else ""
        return args, word

    @override
    def format_completion(self, item: CompletionItem) -> str:
        kept = "" if item.value.startswith("--") else self._kept
        return super().format_completion(CompletionItem(kept + item.value, item.type, item.help))


class _Fish(FishComplete):
    """Takes only the first comma as the end of the type."""

    source_template = FishComplete.source_template.replace(
        'string split ","', 'string split --max 1 ","'
    )


_SHELLS: Final[Mapping[str, type[ShellComplete]]] = {
    "bash": _Bash, "zsh": _Zsh, "fish": _Fish,
}  # fmt: skip


@click.command(
    epilog=examples(
        "completion bash >>~/.bashrc",
        'completion zsh >"${fpath[1]}/_egress-policy"',
        "completion fish >~/.config/fish/completions/egress-policy.fish",
    )
)
@click.argument("shell", type=click.Choice([*_SHELLS]))
def completion(shell: str) -> int:
    """Print a completion script for a shell."""
    root = click.get_current_context().find_root().command
    say(_SHELLS[shell](root, {}, PROGRAM, COMPLETE).source())
    return 0


def complete(root: click.Command, instruction: str) -> int:
    """Answer a shell that asks by ``SHELL_complete``."""
    shell = _SHELLS.get(instruction.removesuffix("_complete"))
    if shell is None:
        return 1
    if words := shell(root, {}, PROGRAM, COMPLETE).complete():
        click.echo(words.encode())
    return 0
