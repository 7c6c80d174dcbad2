"""What the API takes: query strings and bodies as pydantic models, which also describe them.

The fields of entries are checked by the registry, which knows them; here stands what is around.
"""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..errors import InvalidEntry
from ..management.views import SORTS
from ..model.proxy import ProxyType

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_SORTS: Final = tuple(sign + name for name in SORTS for sign in ("", "-"))


def _decimal(value: object) -> object:
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise InvalidEntry("a number is expected")
        return int(value)
    return value


def _flag(value: object) -> object:
    flags = {"1": True, "true": True, "0": False, "false": False}
    if isinstance(value, str):
        if value not in flags:
            raise InvalidEntry("1 or 0 is expected")
        return flags[value]
    return value


def _sort(value: object) -> object:
    if value not in _SORTS:
        raise InvalidEntry(f"one of {', '.join(SORTS)}, perhaps with - before it, is expected")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
Id = Annotated[str, Field(min_length=1, max_length=200)]


class Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Nothing(Input):
    """No parameters."""


class Paging(Input):
    # The limits stand inside: behind a validator pydantic describes them in words of its own.
    limit: Annotated[int, Field(ge=1, le=200), BeforeValidator(_decimal)] = 50
    offset: Annotated[int, Field(ge=0), BeforeValidator(_decimal)] = 0


class EntryQuery(Paging):
    """With ``id`` that entry alone, with ``where_used`` what names it."""

    id: Id | None = None
    where_used: Flag = False

    @model_validator(mode="after")
    def _used_is_one(self) -> "EntryQuery":
        if self.where_used and self.id is None:
            raise InvalidEntry("say with id which entry is meant", "where_used")
        return self


class ProxyQuery(EntryQuery):
    q: Annotated[str, Field(max_length=200)] = ""
    family: Literal["", "auto", "ipv4", "ipv6"] = ""
    status: Literal["", "active", "inactive"] = ""
    source: Literal["", "file", "registry"] = ""
    sort: Annotated[str, BeforeValidator(_sort)] = "name"


class DeleteQuery(Input):
    """With ``force`` also what is in use; what used it refuses from then on."""

    id: Id
    force: Flag = False


class RuleDeleteQuery(Input):
    id: Id


class AssignmentQuery(Paging):
    scope: Annotated[str, Field(max_length=20)] = ""
    scopeId: Annotated[str, Field(max_length=1000)] = ""  # noqa: N815 (the seed page's spelling)
    proxyId: Annotated[str, Field(max_length=200)] = ""  # noqa: N815


class Assign(Input):
    """``proxyId`` null clears the scope; the global scope needs no ``scopeId``."""

    scope: Literal["global", "host", "client", "user", "filter"]
    scopeId: Annotated[str, Field(min_length=1, max_length=1000)] | None = None  # noqa: N815
    proxyId: Id | None  # noqa: N815


class Import(Input):
    """Either text, which may be lines, CSV or JSON as an export writes them, or items with the
    fields of a proxy. ``type`` is for those that name none. ``update`` takes other credentials,
    region and notes for a proxy of the same name. ``dry_run`` keeps nothing."""

    text: Annotated[str, Field(max_length=1_000_000)] | None = None
    items: Annotated[list[Any], Field(max_length=20_000)] | None = None
    type: ProxyType | None = None
    update: bool = False
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> "Import":
        if (self.text is None) == (self.items is None):
            raise InvalidEntry("either text or items is expected", "text")
        return self


class ExportQuery(Input):
    format: Literal["text", "csv", "json"] = "text"
    secrets: Flag = False


class Order(Input):
    """All rules of the registry, each once."""

    ids: Annotated[list[Id], Field(max_length=20_000)]


class SessionBody(Input):
    """Either the token or the word of a one-time link."""

    token: Annotated[str, Field(max_length=2000)] | None = None
    link: Annotated[str, Field(max_length=200)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "SessionBody":
        if (self.token is None) == (self.link is None):
            raise InvalidEntry("either token or link is expected", "token")
        return self
