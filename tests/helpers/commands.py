"""The commands of the command line, found by walking its tree."""

from collections.abc import Iterator

import click


def commands(group: click.Group, *said: str) -> Iterator[tuple[list[str], click.Command]]:
    """Every command that does something, with its words."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command
        if isinstance(command, click.Group):
            yield from commands(command, *said, name)
        else:
            yield [*said, name], command
