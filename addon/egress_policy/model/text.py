"""Text that others wrote, made safe to show: a name, a note, a peer's answer.

Such a text may hold an escape sequence, a carriage return, or a character that turns the direction
of what follows. ``printable`` is applied where text reaches a terminal or a log, and nowhere else:
what is stored and what is exported stays as it is.
"""

import unicodedata


def printable(text: str, *, lines: bool = False) -> str:
    """``text`` with every hidden character as its escape, such as ``\\x1b`` or ``\\u202e``.

    With ``lines`` a line feed stays one: for messages that have several lines of their own.
    """
    if lines:
        return "\n".join(map(printable, text.split("\n")))
    if text.isprintable():
        return text
    return "".join(_escape(character) if _is_hidden(character) else character for character in text)


def first_hidden(text: str) -> int | None:
    """The index of the first character that shows nothing of itself: a control, a format
    character (zero width, byte order mark, direction), a line separator, a lone surrogate."""
    if text.isprintable():
        return None
    return next((index for index, one in enumerate(text) if _is_hidden(one)), None)


def character_name(character: str) -> str:
    """``U+200B ZERO WIDTH SPACE``; controls have no name in Unicode."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def _is_hidden(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) != "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
