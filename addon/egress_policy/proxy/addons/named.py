"""Addons are found by their class, because another addon may use the same name."""

from functools import cached_property
from typing import Any

from mitmproxy import ctx


class Named:
    """An addon of this package. mitmproxy loads no second addon of the same name, so a foreign
    addon with the name must not keep this one from being loaded."""

    @cached_property
    def name(self) -> str:
        """The name of the class in lower case, unless a foreign addon has it."""
        usual = type(self).__name__.lower()
        holder = ctx.master.addons.get(usual)
        return usual if holder is None or isinstance(holder, Named) else f"{usual} {id(self)}"


def find[T](kind: type[T]) -> T | None:
    """The addon of this class in the running mitmproxy, whatever its name."""
    lookup: dict[str, Any] = ctx.master.addons.lookup
    usual = lookup.get(kind.__name__.lower())
    if isinstance(usual, kind):
        return usual
    return next((addon for addon in lookup.values() if isinstance(addon, kind)), None)
