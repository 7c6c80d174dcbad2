"""Tags: words that people sort proxies by.

A tag is kept in lower case, so that ``EU`` and ``eu`` are one tag. It holds no space and no comma,
because those separate tags wherever several are written in one text.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from ..sentence import Sentence
from .text import character_name, first_hidden

LONGEST: Final = 40
MOST: Final = 20
"""Tags of one entry."""


def parse_tag(text: str) -> str:
    """The tag that a text means. Raises ``ValueError``, which does not quote the text."""
    tag = text.strip().lower()
    if not 0 < len(tag) <= LONGEST:
        raise ValueError(Sentence("tag_length", "a tag has 1 to {most} characters", most=LONGEST))
    if any(one.isspace() or one == "," for one in tag):
        raise ValueError(
            Sentence("tag_space", "a tag holds no space and no comma: write several tags as a list")
        )
    if (hidden := first_hidden(tag)) is not None:
        raise ValueError(
            Sentence(
                "hidden_character",
                "character {number} is hidden: {what}",
                number=hidden + 1,
                what=character_name(tag[hidden]),
            )
        )
    return tag


def split_tags(text: str) -> list[str]:
    """The tags in a text that separates them with spaces or commas. They are not checked yet."""
    return text.replace(",", " ").split()


def each_once(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The tags in the order in which they first appear, each once."""
    return tuple(dict.fromkeys(tags))


Tags = Annotated[
    tuple[Annotated[str, AfterValidator(parse_tag)], ...],
    Field(max_length=MOST),
    AfterValidator(each_once),
]
"""The tags of an entry, each once, in the order in which they were given."""
