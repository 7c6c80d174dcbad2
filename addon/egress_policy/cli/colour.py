"""Colours: which streams get any, and what they look like.

``--color`` and ``--no-color`` decide; else a terminal gets colours unless NO_COLOR is set
(https://no-color.org) or it is a dumb one. A colour never says anything alone: the text does too.
"""

import os
from contextvars import ContextVar
from typing import Final, Literal, NamedTuple, TextIO

Style = Literal["good", "bad", "warn", "quiet", "head"]

_CODES: Final[dict[Style, str]] = {
    "good": "32", "bad": "31", "warn": "33", "quiet": "2", "head": "1",
}  # fmt: skip

_WANTED: Final[ContextVar[bool | None]] = ContextVar("wanted", default=None)


class Painted(NamedTuple):
    """A text or other value, and how it is shown; ``None`` for plainly."""

    value: object
    style: Style | None


def ok_cell(is_ok: bool) -> Painted:
    """``ok`` or ``failed``."""
    return Painted("ok", "good") if is_ok else Painted("failed", "bad")


def paint(text: str, style: Style | None, stream: TextIO) -> str:
    """The text as the stream shows it. It must have no control characters of its own."""
    if style is None or not text or not _has_colours(stream):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def want(asked: bool | None) -> None:
    """Have what is written from now on coloured, or not; ``None``: as the stream suggests."""
    _WANTED.set(asked)


def _has_colours(stream: TextIO) -> bool:
    if (asked := _WANTED.get()) is not None:
        return asked
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()
