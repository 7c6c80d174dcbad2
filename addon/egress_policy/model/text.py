"""Foreign text made safe to show: a name, a note, a peer's answer.

Such text may hold an escape sequence, a carriage return, or a character that reverses the direction
of what follows. ``printable`` is applied only where text reaches a terminal or a log: stored and
exported text stays as it is. ``first_hidden`` finds what a reader cannot see, for text in which
every character counts: a host, an account, a line of a list.
"""

import re
import unicodedata
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_SHOWS_NOTHING: Final = re.compile(
    # Default_Ignorable_Code_Point of Unicode 16, without unassigned and format characters, and the
    # blank of Braille.
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\u2800"
    "\U000e0100-\U000e01ef]"
)


def printable(text: str, *, lines: bool = False) -> str:
    """``text`` with every hidden character as its escape, such as ``\\x1b`` or ``\\u202e``.

    With ``lines``, line feeds stay, for messages of several lines.
    """
    if lines:
        return "\n".join(map(printable, text.split("\n")))
    if text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode() if _is_hidden(one) else one for one in text
    )


def first_hidden(text: str) -> int | None:
    """The index of the first character that a reader cannot see or may take for another.

    Such are controls, format characters (zero width, byte order mark, direction), line separators,
    lone surrogates, fillers, variation selectors, and any space other than U+0020.
    """
    if text.isascii() and text.isprintable():
        return None
    return next((index for index, one in enumerate(text) if _is_unseen(one)), None)


def character_name(character: str) -> str:
    """``U+200B ZERO WIDTH SPACE``; controls have no name in Unicode."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def _is_hidden(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _is_unseen(character: str) -> bool:
    if character == " ":
        return False
    return unicodedata.category(character) in _UNSEEN or bool(_SHOWS_NOTHING.match(character))
