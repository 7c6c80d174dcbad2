"""Checks the fields of an entry, with errors that name the field."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import Conflict, InvalidEntry, InvalidFields, NotFound

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MESSAGES: Final = {
    "missing": "is required",
    "extra_forbidden": "unknown field",
    "tuple_type": "a list is expected",
    "string_type": "a text is expected",
    "string_too_short": "an empty text is not allowed",
    "string_pattern_mismatch": "control characters are not allowed",
    "string_unicode": "lone surrogates are not allowed",
}


def validate[M: BaseModel](model: type[M], fields: Mapping[str, object]) -> M:
    """The value that the fields make. Raises ``InvalidFields`` with every fault, quoting none."""
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidFields(tuple(_problem(details) for details in found)) from error


def require_text(text: object, field: str, limit: int = 1000) -> str:
    """The text, if every database can hold it. Raises ``InvalidEntry``, also for control
    characters and lone surrogates."""
    if not isinstance(text, str) or not text.strip() or len(text) > limit:
        raise InvalidEntry(f"{field}: a text of 1 to {limit} characters is expected", field)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise InvalidEntry(f"{field}: control characters are not allowed", field)
    return text


def require_id(text: object) -> str:
    """The text, if it can be the id of an entry. Raises ``NotFound`` otherwise."""
    if isinstance(text, str) and _ID.fullmatch(text):
        return text
    raise NotFound("There is no such entry: an id is expected")


def require_match(revision: int, if_match: str | None) -> None:
    """Raises ``Conflict`` if the entry is not what the caller read."""
    if if_match is not None and if_match != str(revision):
        raise Conflict("The entry was changed meanwhile; read it again")


def _problem(details: ErrorDetails) -> tuple[str, str]:
    location = details["loc"]
    if location[:1] == ("use",):
        location = ("use", *location[2:])  # the next part is the kind of `use` that pydantic tried
    field = ".".join(str(part) for part in location)
    error = details.get("ctx", {}).get("error")
    if error is None:
        message = _MESSAGES.get(details["type"], details["msg"])
        return field, f"{field}: {message}"
    inner = error.field if isinstance(error, InvalidEntry) else ""
    if not location or location == ("use",):
        field = f"{field}.{inner}".strip(".")
    return field, str(error)
