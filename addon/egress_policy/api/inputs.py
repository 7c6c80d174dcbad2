"""Query strings and bodies as pydantic models, which also describe them: what several resources
share.

The fields of entries are checked by the registry, which knows them.
"""

import re
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ..errors import InvalidEntry
from ..sentence import Sentence

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def decimal(value: object) -> object:
    """The number that a text of a query string is."""
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise InvalidEntry(Sentence("number", "a number is expected"))
        return int(value)
    return value


def _flag(value: object) -> object:
    flags = {"1": True, "true": True, "0": False, "false": False}
    if isinstance(value, str):
        if value not in flags:
            raise InvalidEntry(Sentence("flag", "1 or 0 is expected"))
        return flags[value]
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
Id = Annotated[str, Field(min_length=1, max_length=200)]


class Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Nothing(Input):
    """No parameters."""


class Paging(Input):
    # The limits stand inside: behind a validator pydantic describes them in words of its own.
    limit: Annotated[int, Field(ge=1, le=200), BeforeValidator(decimal)] = 50
    offset: Annotated[int, Field(ge=0), BeforeValidator(decimal)] = 0
