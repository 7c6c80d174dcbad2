"""Cells of a CSV file that no spreadsheet runs, and the way back to what they stand for.

A spreadsheet runs a cell that begins with one of ``= + - @``, also behind characters that it drops
or does not show. Which characters separate cells depends on its settings, so a cell may begin
behind any of them, within what we wrote as one cell. ``neutralise`` puts a ``'`` before each such
character and ``restore`` takes one away: what was written comes back exactly, whatever it was.
"""

import unicodedata
from collections.abc import Iterator
from typing import Final

_FORMULA: Final = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a cell begins with that spreadsheets run (the last four in full width)."""

_SEPARATORS: Final = frozenset(",;|\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")
_QUOTES: Final = frozenset("'\"")


def neutralise(cell: str) -> str:
    if _FORMULA.isdisjoint(cell):
        return cell
    starts = set(_starts(cell))
    return "".join(f"'{one}" if index in starts else one for index, one in enumerate(cell))


def restore(cell: str) -> str:
    """What ``neutralise`` made ``cell`` of; any other text loses the ``'`` that it would add."""
    if "'" not in cell:
        return cell
    added = {index - 1 for index in _starts(cell) if cell[index - 1 : index] == "'"}
    return "".join(one for index, one in enumerate(cell) if index not in added)


def _starts(cell: str) -> Iterator[int]:
    """Where a formula would begin. Quotes do not change what is a start, so that ``restore``
    finds the places that ``neutralise`` found."""
    may_begin = True
    for index, character in enumerate(cell):
        if may_begin and character in _FORMULA:
            yield index
        may_begin = character in _SEPARATORS or (may_begin and _is_passed_over(character))


def _is_passed_over(character: str) -> bool:
    return character in _QUOTES or character.isspace() or unicodedata.category(character) == "Cf"
