"""Cells of a CSV file that no spreadsheet runs, wherever it lets a cell begin."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.model.spreadsheet import neutralise, restore

PIECES = ["=", "+", "-", "@", "\uff1d", "\uff20", "'", '"', ";", ",", "|", "\t", "\r", "\n", "\x85"]
PIECES += ["\ufeff", "\u200b", "\u202e", " ", "\u00a0", "\u2028", "\x1f", "a", "1"]
cells = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)

FORMULA = re.compile("[=+\\-@\uff1d\uff0b\uff0d\uff20]")
SEPARATOR = re.compile("[,;|\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]")
# What programs were seen to drop or to look past before they look for a formula.
DROPPED = '\ufeff\u200b\u200c\u200d\u2060\u202a\u202e\u2066\u2069\u00ad\u00a0\u3000\x1f "'


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1", "'=1"),
        ("'=1", "''=1"),
        ("-5", "'-5"),
        ("a=b", "a=b"),
        ("it's", "it's"),
        ("a;=1", "a;'=1"),
        ("a\t=1", "a\t'=1"),
        ("a\r=1", "a\r'=1"),
        ("\ufeff=1", "\ufeff'=1"),
        ("\u200b @x", "\u200b '@x"),
        ('a";"=1', 'a";"\'=1'),
        ("\uff1d1", "'\uff1d1"),
        ("=1;=2", "'=1;'=2"),
    ],
)
def test_cell_is_written_and_read(cell: str, written: str) -> None:
    assert neutralise(cell) == written
    assert restore(written) == cell


@given(cells)
def test_every_cell_comes_back_as_it_was(cell: str) -> None:
    assert restore(neutralise(cell)) == cell


@given(cells)
def test_no_part_of_a_cell_begins_with_a_formula(cell: str) -> None:
    for part in SEPARATOR.split(neutralise(cell)):
        assert not FORMULA.match(part.strip(DROPPED).lstrip())
