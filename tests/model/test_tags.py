import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from egress_policy.model.tags import LONGEST, MOST, Tags, parse_tag, split_tags

TAGS = TypeAdapter(Tags)


def test_tags_are_lower_case_and_each_stands_once() -> None:
    assert TAGS.validate_python([" EU ", "fast", "eu", "Größe", "日本"]) == (
        *("eu", "fast", "größe", "日本"),
    )


@pytest.mark.parametrize(
    "tag", ["", " ", "a b", "a,b", "a\tb", "a\u200bb", "\u202eeu", "x" * (LONGEST + 1)]
)
def test_text_that_is_no_tag_is_rejected(tag: str) -> None:
    with pytest.raises(ValueError, match=r"a tag|is hidden"):
        parse_tag(tag)


@pytest.mark.parametrize("tags", ["eu", None, [1], ["x"] * (MOST + 1)])
def test_tags_are_a_short_list_of_texts(tags: object) -> None:
    with pytest.raises(ValidationError):
        TAGS.validate_python(tags)


@given(st.lists(st.text(max_size=LONGEST + 2), max_size=MOST))
def test_tags_that_are_valid_survive_being_written_as_one_text(texts: list[str]) -> None:
    tags: list[str] = []
    for text in texts:
        try:
            tags.append(parse_tag(text))
        except ValueError:
            continue
    assert [parse_tag(tag) for tag in tags] == tags
    assert split_tags(" ".join(tags)) == split_tags(",".join(tags)) == tags
