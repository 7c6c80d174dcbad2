"""What a soak found: figures beside their bounds."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A figure. ``bound`` is empty where any value is good."""

    what: str
    seen: object
    bound: str
    is_good: bool


def at_most(what: str, seen: float, bound: float, form: str = ".2f") -> Line:
    """A figure that must not be more than ``bound``."""
    return Line(what, f"{seen:{form}}", f"<= {bound:g}", seen <= bound)


def none(what: str, seen: object) -> Line:
    """A number, or a collection, that must be empty."""
    return Line(what, seen or 0, "0", not seen)


def figure(what: str, seen: object) -> Line:
    """A figure without a bound."""
    return Line(what, seen, "", True)


def report(lines: Sequence[Line]) -> int:
    """Print the figures. Returns 1 if a bound is broken, otherwise 0."""
    for line in lines:
        print(
            f"{line.what:40} {line.seen!s:>12}  {line.bound:12}",
            "ok" if line.is_good else "BROKEN",
        )
    return int(not all(line.is_good for line in lines))
