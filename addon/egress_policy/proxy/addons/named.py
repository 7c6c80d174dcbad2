"""Addons are found by what they are: their name may be that of somebody else's."""

from functools import cached_property
from typing import Any

from mitmproxy import ctx


class Named:
    """An addon of this package. mitmproxy loads no second addon of a name, so that a stranger that
    has the name would keep ours from being loaded."""

    @cached_property
    def name(self) -> str:
        """The name of the class in lower case, unless a stranger has it."""
        usual = type(self).__name__.lower()
        holder = ctx.master.addons.get(usual)
        return usual if holder is None or isinstance(holder, Named) else f"{usual} {id(self)}"


def find[T](kind: type[T]) -> T | None:
    """The addon of this class that mitmproxy has, whatever its name is."""
    lookup: dict[str, Any] = ctx.master.addons.lookup
    usual = lookup.get(kind.__name__.lower())
    if isinstance(usual, kind):
        return usual
    return next((addon for addon in lookup.values() if isinstance(addon, kind)), None)
