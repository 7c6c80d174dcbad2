"""Names of entries as arguments, and their completion."""

from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from typing import TYPE_CHECKING, Final, override

import click
from click.shell_completion import CompletionItem

from ..model.text import first_hidden
from .hints import values_of

if TYPE_CHECKING:
    from .running import Asked

ALL: Final = 1_000_000
"""A limit above any number of entries."""


class Name(click.ParamType):  # type: ignore[type-arg]
    """The name (or id) of an entry of some ``kinds``, or one of the words ``also``."""

    name = "name"

    def __init__(self, *kinds: str, also: Sequence[str] = ()) -> None:
        self.kinds, self.also = kinds, also

    def names(self, asked: "Asked") -> list[str]:
        found = list(self.also)
        for kind in self.kinds:
            listed = getattr(asked, kind).list(limit=ALL).items
            found += [one.label if kind == "rules" else one.name for one in listed]
        return found

    @override
    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from .session import session_of

        names: list[str] = []
        # A shell that completes shows no errors: what cannot be asked has no names.
        with suppress(Exception), redirect_stderr(StringIO()):
            names = session_of(ctx.params).read(self.names)
        given = values_of(ctx.params.get(param.name or ""))
        return [
            CompletionItem(name)
            for name in names
            if name.startswith(incomplete) and name not in given and first_hidden(name) is None
        ]
