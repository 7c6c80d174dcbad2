"""``completion``: a script for the shell, made from the commands there are."""

import argparse
from collections.abc import Iterator
from typing import Any

from .output import say

_BASH = """\
_egress_policy() {{
    local words="${{COMP_WORDS[*]:1:COMP_CWORD-1}}" current="${{COMP_WORDS[COMP_CWORD]}}" choices
    case "$words" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$choices" -- "$current"))
}}
complete -F _egress_policy egress-policy
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
_NAMES = (
    " $(egress-policy proxies list --json 2>/dev/null"
    """ | sed -n 's/^  "name": "\\([^ \\"]*\\)",$/\\1/p')"""
)
_NAMED = ("show", "edit", "remove", "enable", "disable")


def add_completion(commands: Any, root: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("completion", help="print a completion script for a shell")
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    parser.set_defaults(run=lambda options: _completion(options, root))


def _completion(options: argparse.Namespace, root: argparse.ArgumentParser) -> int:
    tree = dict(_tree(root, ()))
    if options.shell == "fish":
        say("\n".join(_fish(tree)))
    else:
        say((_ZSH if options.shell == "zsh" else "") + _BASH.format(cases="\n".join(_cases(tree))))
    return 0


def _tree(
    parser: argparse.ArgumentParser, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every command as its words, with the words that may follow."""
    words: list[str] = []
    for action in parser._actions:  # noqa: SLF001 (argparse has no other way to look inside)
        words += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, child in action.choices.items():
                words.append(name)
                yield from _tree(child, (*path, name))
        elif not action.option_strings and action.choices:
            words += map(str, action.choices)
    yield path, words


def _cases(tree: dict[tuple[str, ...], list[str]]) -> Iterator[str]:
    for path, words in sorted(tree.items(), key=lambda item: -len(item[0])):
        pattern = " ".join(path)
        pattern = f'"{pattern}"|"{pattern} "*' if path else "*"
        names = _NAMES if path[:1] == ("proxies",) and path[-1] in _NAMED else ""
        yield f'        {pattern}) choices="{" ".join(words)}{names}" ;;'


def _fish(tree: dict[tuple[str, ...], list[str]]) -> Iterator[str]:
    yield "complete -c egress-policy -f"
    for path, words in tree.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in path)
        condition = f"-n '{seen}'" if path else "-n __fish_use_subcommand"
        plain = [word for word in words if not word.startswith("-")]
        if plain:
            yield f"complete -c egress-policy {condition} -a '{' '.join(plain)}'"
        for word in words:
            if word.startswith("--"):
                yield f"complete -c egress-policy {condition} -l {word[2:]}"
