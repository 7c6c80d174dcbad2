"""Protects cells of a CSV file from being run by a spreadsheet, and undoes it.

A spreadsheet runs a cell that begins with one of ``= + - @``, also after characters that it drops
or does not show. Its settings decide which characters separate cells, so within one written cell a
new cell may begin after any of them. ``neutralise`` puts a ``'`` before each such character and
``restore`` removes it: any text comes back exactly.
"""

import unicodedata
from collections.abc import Iterator
from typing import Final

_FORMULA: Final = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
"""First characters of cells that spreadsheets run (the last four in full width)."""

_SEPARATORS: Final = frozenset(",;|\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")
_QUOTES: Final = frozenset("'\"")


def neutralise(cell: str) -> str:
    if _FORMULA.isdisjoint(cell):
        return cell
    starts = set(_starts(cell))
    return "".join(f"'{one}" if index in starts else one for index, one in enumerate(cell))


def restore(cell: str) -> str:
    """Undo ``neutralise``. Other text loses the ``'`` that ``neutralise`` would have added."""
    if "'" not in cell:
        return cell
    added = {index - 1 for index in _starts(cell) if cell[index - 1 : index] == "'"}
    return "".join(one for index, one in enumerate(cell) if index not in added)


def _starts(cell: str) -> Iterator[int]:
    """Where a formula may begin. Quotes do not affect this, so ``restore`` finds the places that
    ``neutralise`` found."""
    may_begin = True
    for index, character in enumerate(cell):
        if may_begin and character in _FORMULA:
            yield index
        may_begin = character in _SEPARATORS or (may_begin and _is_passed_over(character))


def _is_passed_over(character: str) -> bool:
    return character in _QUOTES or character.isspace() or unicodedata.category(character) == "Cf"
