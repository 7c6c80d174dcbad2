"""Names of entries as arguments: completions, and suggestions for mistyped names."""

from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, override

import click
from click.shell_completion import CompletionItem

from ..errors import EgressError, InvalidEntry, NotFound
from ..model.text import first_hidden
from .command import did_you_mean

if TYPE_CHECKING:
    from .session import Asked

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
        given = _values(ctx.params.get(param.name or ""))
        return [
            CompletionItem(name)
            for name in names
            if name.startswith(incomplete) and name not in given and first_hidden(name) is None
        ]


def hint(error: Exception, asked: "Asked", key: str = "") -> None:
    """Add to an error the name that may have been meant. ``key`` is the one of several names that
    the error is about."""
    if not isinstance(error, NotFound | InvalidEntry):
        return
    context = click.get_current_context(silent=True)
    for param in context.command.params if context else ():
        if not isinstance(param.type, Name) or context is None:
            continue
        values = _values(context.params.get(param.name or ""))
        for value in [key] if key in values else values:
            try:
                names = param.type.names(asked)
            except EgressError:  # what went wrong is said already
                return
            if value not in names and (meant := did_you_mean(value, names)):
                error.add_note(meant)


def _values(given: Any) -> Sequence[str]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else given
