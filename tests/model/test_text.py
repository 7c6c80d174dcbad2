"""Foreign text that is shown controls no terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress_policy.model.text import character_name, first_hidden, printable

CONTROLS = ["\r", "\v", "\f", "\x85", "\x1b", "\x9b", "\x00", "\x7f", "\t", "\n"]
DIRECTIONS = [*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x061C))]
INVISIBLE = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\U000e0041"]
SEPARATORS = ["\u2028", "\u2029", "\ud800"]
HIDDEN = [*CONTROLS, *DIRECTIONS, *INVISIBLE, *SEPARATORS]
FILLERS = ["\ufe0f", "\u034f", "\u3164", "\u115f", "\u2800", "\U000e0100"]
SPACES = ["\u00a0", "\u3000", "\u2003"]
UNSEEN = [*HIDDEN, *FILLERS, *SPACES]


@pytest.mark.parametrize("character", HIDDEN, ids=ascii)
def test_hidden_character_is_shown_as_its_escape(character: str) -> None:
    shown = printable(f"a{character}b")
    assert shown == f"a{ascii(character)[1:-1]}b"


@pytest.mark.parametrize("character", UNSEEN, ids=ascii)
def test_character_that_is_not_seen_is_found(character: str) -> None:
    assert first_hidden(f"a {character}b") == 2


@pytest.mark.parametrize("text", ["", "plain", "Zürich 東京\u3000é\u00a0", "a\\x1b", "👍"])
def test_text_that_shows_itself_stays(text: str) -> None:
    assert printable(text) == text
    assert first_hidden("".join(text.split())) is None


def test_line_feeds_stay_only_where_asked_for() -> None:
    assert printable("a\nb\x1b") == "a\\nb\\x1b"
    assert printable("a\nb\x1b\r\n", lines=True) == "a\nb\\x1b\\r\n"


def test_character_is_named() -> None:
    assert character_name("\u200b") == "U+200B ZERO WIDTH SPACE"
    assert character_name("\x1b") == "U+001B"


@given(st.text(st.characters(codec=None) | st.sampled_from(HIDDEN)))
def test_nothing_shown_is_hidden(text: str) -> None:
    for shown in (printable(text), printable(text, lines=True).replace("\n", "")):
        categories = {unicodedata.category(character) for character in shown}
        assert categories.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
        assert printable(shown) == shown
