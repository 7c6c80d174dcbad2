"""Checks the fields of an entry, with errors that name the field."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import Conflict, InvalidEntry, InvalidFields, NotFound
from ..model.faults import sentence_of
from ..sentence import Sentence

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
        fault = Sentence(
            "text_to_limit", "a text of 1 to {limit} characters is expected", limit=limit
        )
        raise InvalidEntry(_about(field, fault), field)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        fault = Sentence("control_characters", "control characters are not allowed")
        raise InvalidEntry(_about(field, fault), field)
    return text


def require_id(text: object) -> str:
    """The text, if it can be the id of an entry. Raises ``NotFound`` otherwise."""
    if isinstance(text, str) and _ID.fullmatch(text):
        return text
    raise NotFound(Sentence("id_expected", "There is no such entry: an id is expected"))


def require_match(revision: int, if_match: str | None) -> None:
    """Raises ``Conflict`` if the entry is not what the caller read."""
    if if_match is not None and if_match != str(revision):
        raise Conflict(
            Sentence("changed_meanwhile", "The entry was changed meanwhile; read it again")
        )


def _problem(details: ErrorDetails) -> tuple[str, str]:
    location = details["loc"]
    if location[:1] == ("use",):
        location = ("use", *location[2:])  # the next part is the kind of `use` that pydantic tried
    field = ".".join(str(part) for part in location)
    error = details.get("ctx", {}).get("error")
    if error is None:
        return field, _about(field, sentence_of(details))
    inner = error.field if isinstance(error, InvalidEntry) else ""
    if not location or location == ("use",):
        field = f"{field}.{inner}".strip(".")
    return field, error.text if isinstance(error, InvalidEntry) else sentence_of(details)


def _about(field: str, fault: str) -> Sentence:
    return Sentence("field_fault", "{field}: {fault}", field=field, fault=fault)
