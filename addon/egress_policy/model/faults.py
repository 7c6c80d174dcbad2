"""What pydantic finds wrong with a value, as a sentence for people that quotes no value."""

from typing import Final

from pydantic_core import ErrorDetails

from ..errors import InvalidEntry
from ..sentence import Sentence

_MISSING: Final = Sentence("missing", "is required")
_TEXT: Final = Sentence("string_type", "a text is expected")
_NUMBER: Final = Sentence("int_type", "a whole number is expected")
_YES_OR_NO: Final = Sentence("bool_type", "true or false is expected")
_LIST: Final = Sentence("tuple_type", "a list is expected")
_OBJECT: Final = Sentence("dict_type", "an object is expected")
_PLAIN: Final = {
    "missing": _MISSING,
    "extra_forbidden": Sentence("extra_forbidden", "unknown field"),
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "string_type": _TEXT,
    "string_too_short": Sentence("string_too_short", "an empty text is not allowed"),
    "string_unicode": Sentence("string_unicode", "lone surrogates are not allowed"),
    "int_type": _NUMBER,
    "int_parsing": _NUMBER,
    "int_from_float": _NUMBER,
    "bool_type": _YES_OR_NO,
    "bool_parsing": _YES_OR_NO,
}


def sentence_of(details: ErrorDetails) -> str:
    """The sentence for an error of pydantic; its own text where it has no code here."""
    kind, about = details["type"], details.get("ctx", {})
    match kind:
        case "string_pattern_mismatch":
            if r"\x00-\x1f" in about["pattern"]:
                return Sentence("control_characters", "control characters are not allowed")
            return Sentence("characters", "some of these characters are not allowed here")
        case "string_too_long":
            most = about["max_length"]
            return Sentence("string_too_long", "at most {most} characters are allowed", most=most)
        case "greater_than_equal":
            least = about["ge"]
            return Sentence("at_least", "a number of at least {least} is expected", least=least)
        case "less_than_equal":
            most = about["le"]
            return Sentence("at_most", "a number of at most {most} is expected", most=most)
        case "too_long":
            most = about["max_length"]
            return Sentence("too_long", "a list of at most {most} is expected", most=most)
        case "literal_error":
            words = about["expected"].replace("'", "")
            return Sentence("literal_error", "{words} is expected", words=words)
        case "value_error":
            error = about.get("error")
            if isinstance(error, InvalidEntry):
                return error.text
            given = error.args[0] if isinstance(error, ValueError) and error.args else ""
            return given if isinstance(given, str) and given else details["msg"]
    return _PLAIN.get(kind, details["msg"])
