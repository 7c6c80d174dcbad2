"""Suggestions for mistyped names of entries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import click

from ..errors import EgressError, InvalidEntry, NotFound
from .command import did_you_mean

if TYPE_CHECKING:
    from .running import Asked


@runtime_checkable
class Naming(Protocol):
    """The type of an argument that names an entry."""

    kinds: Sequence[str]

    def names(self, asked: "Asked") -> list[str]: ...


def hint(error: Exception, asked: "Asked", key: str = "") -> None:
    """Add to an error the name that may have been meant, or what lists the names there are. ``key``
    is the one of several names that the error is about."""
    if not isinstance(error, NotFound | InvalidEntry):
        return
    context = click.get_current_context(silent=True)
    for param in context.command.params if context else ():
        if not isinstance(param.type, Naming) or context is None:
            continue
        values = values_of(context.params.get(param.name or ""))
        for value in [key] if key in values else values:
            try:
                names = param.type.names(asked)
            except EgressError:  # what went wrong is said already
                return
            if value in names:
                continue
            if meant := did_you_mean(value, names):
                error.add_note(meant)
            elif isinstance(error, NotFound):
                lists = " and ".join(f"`egress-policy {kind} list`" for kind in param.type.kinds)
                error.add_note(f"{lists} shows what there is")


def values_of(given: Any) -> Sequence[str]:
    """The names in an argument that takes one or several; a member of a pool may have a weight
    beside its name."""
    if given is None:
        return ()
    listed = (given,) if isinstance(given, str) else given
    return [one if isinstance(one, str) else one["name"] for one in listed]
