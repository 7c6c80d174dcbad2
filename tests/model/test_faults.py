"""What pydantic finds, in the words of this project."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError

from egress_policy.errors import InvalidEntry
from egress_policy.model.faults import sentence_of
from egress_policy.sentence import Sentence

SECRET = "hush-hush-7"


def refuse(text: str) -> str:
    if text == "plain":
        raise ValueError(Sentence("plain_fault", "not plain"))
    if text == "entry":
        raise InvalidEntry(Sentence("entry_fault", "not an entry"), "name")
    return text


class Entry(BaseModel):
    model_config = {"extra": "forbid"}

    name: Annotated[str, Field(min_length=1, max_length=12)] = "x"
    word: Annotated[str, StringConstraints(pattern=r"^[a-z]+$")] = "x"
    text: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = "x"
    own: Annotated[str, AfterValidator(refuse)] = "x"
    count: Annotated[int, Field(ge=1, le=9)] = 1
    flag: bool = False
    few: Annotated[tuple[str, ...], Field(max_length=1)] = ()
    kind: Literal["a", "b"] = "a"
    when: dict[str, str] = {}


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"name": ""}, "string_too_short", "an empty text is not allowed"),
        ({"name": "n" * 13}, "string_too_long", "at most 12 characters are allowed"),
        ({"name": 7}, "string_type", "a text is expected"),
        ({"name": "\ud800"}, "string_unicode", "lone surrogates are not allowed"),
        ({"word": "A"}, "characters", "some of these characters are not allowed here"),
        ({"text": "\x1b"}, "control_characters", "control characters are not allowed"),
        ({"own": "plain"}, "plain_fault", "not plain"),
        ({"own": "entry"}, "entry_fault", "not an entry"),
        ({"count": 0}, "at_least", "a number of at least 1 is expected"),
        ({"count": 10}, "at_most", "a number of at most 9 is expected"),
        ({"count": "many"}, "int_type", "a whole number is expected"),
        ({"flag": "maybe"}, "bool_type", "true or false is expected"),
        ({"few": ["a", "b"]}, "too_long", "a list of at most 1 is expected"),
        ({"few": 1}, "tuple_type", "a list is expected"),
        ({"kind": SECRET}, "literal_error", "a or b is expected"),
        ({"when": 1}, "dict_type", "an object is expected"),
        ({"unknown": SECRET}, "extra_forbidden", "unknown field"),
    ],
)
def test_fault_has_a_code_and_quotes_no_value(fields: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Entry.model_validate(fields)
    (details,) = raised.value.errors(include_url=False, include_input=False)
    found = sentence_of(details)
    assert isinstance(found, Sentence)
    assert (found.code, found) == (code, text)
    assert SECRET not in found


def test_fault_without_a_code_is_told_by_pydantic() -> None:
    with pytest.raises(ValidationError) as raised:
        Entry.model_validate({"count": float("inf")})
    details = raised.value.errors()[0]
    assert sentence_of(details) == details["msg"]
