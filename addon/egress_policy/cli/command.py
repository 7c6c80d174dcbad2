"""What all commands share: examples in the help, and suggestions for mistyped words."""

import importlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, get_args, override

import click

PROGRAM: Final = "egress-policy"
COMPLETE: Final = "_EGRESS_POLICY_COMPLETE"
"""The variable by which a shell asks for completions, as click would call it."""
_MEANT: Final = {
    "activate": "enable", "create": "add", "deactivate": "disable", "delete": "remove",
    "get": "show", "ls": "list", "new": "add", "rm": "remove", "set": "edit", "update": "edit",
}  # fmt: skip


def examples(*lines: str) -> str:
    """The end of a command's help, from command lines without the program's name."""
    head = "Examples:" if len(lines) > 1 else "Example:"
    return "\n".join(["\b", head, *(f"$ {PROGRAM} {line}" for line in lines)])


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """``Did you mean 'list'?``; empty if nothing is near."""
    near = [_MEANT[word]] if _MEANT.get(word) in known else get_close_matches(word, known, 1)
    return f"Did you mean {near[0]!r}?" if near else ""


def choice(option: str, literal: Any, about: str | None = None, more: Sequence[str] = ()) -> Any:
    """An option that takes the values of a ``Literal`` and ``more``; ``about`` is its help."""
    return click.option(option, type=click.Choice((*get_args(literal), *more)), help=about)


def exclusive(required: bool = False, **given: object) -> None:
    """Options that exclude each other. Raises ``UsageError`` if more than one is given."""
    number = sum(map(bool, given.values()))
    if number > 1 or (required and number == 0):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"Give {'one' if required else 'at most one'} of {names}")


class Group(click.Group):
    """A group of commands. A module of ``lazy`` is imported when its command is used. There it has
    the name of the command, with ``_`` behind it where that is a Python keyword."""

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **{"no_args_is_help": False, **kwargs})
        self._lazy = lazy or {}

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazy, *self.commands]

    @override
    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._lazy:
            return super().get_command(ctx, name)
        module = importlib.import_module(f".{self._lazy[name]}", __package__)
        found: click.Command = getattr(module, f"{name}_", None) or getattr(module, name)
        return found

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] in known or args[0].startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        meant = did_you_mean(args[0], known) or f"There are: {', '.join(known)}"
        raise click.UsageError(f"No such command {args[0]!r}. {meant}", ctx)
