"""Copies with other values, for objects that every request copies.

``dataclasses.replace`` runs the constructor, which for mitmproxy's objects checks every field, and
``copy.copy`` goes through pickle's protocol. Both take several times as long.
"""

from typing import Any


def altered[T](original: T, **values: Any) -> T:
    """A shallow copy with these attributes, which no constructor and no ``__setattr__`` checks."""
    copied = object.__new__(type(original))
    attributes = vars(copied)
    attributes |= vars(original)
    attributes |= values
    return copied
