"""What faces show, as pydantic models: the API answers with them, the command line prints them.

This module has what all kinds of entries share; each kind has its view beside its list. No view
holds a secret: a password appears as whether it is set.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ..registry.records import Stored
from ..sentence import Parameter, Sentence

Source = Literal["file", "registry"]
"""Entries of the policy file are read-only."""

FILE_ID = "file:"
"""The id of an entry of the policy file: this, and its name or its number from 1."""


class View(BaseModel):
    """Frozen, and made of plain values: ``model_dump(mode="json")`` is what a face shows.

    pydantic builds a view when the first one is made, because a proxy may never be asked for one.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)


class Said(View):
    """What a sentence was made of: the stable ``code`` of its words, and what fills their gaps.
    ``text`` is the sentence in English."""

    text: str
    code: str
    params: "dict[str, SaidParameter]" = {}

    @classmethod
    def of(cls, sentence: Sentence) -> Self:
        params = {name: _said_parameter(value) for name, value in sentence.params.items()}
        return cls(text=str(sentence), code=sentence.code, params=params)


SaidParameter = str | int | float | Said | list[str | Said]


def _said_parameter(value: Parameter) -> SaidParameter:
    if isinstance(value, Sentence):
        return Said.of(value)
    if isinstance(value, str | int | float):
        return value
    return [Said.of(one) if isinstance(one, Sentence) else one for one in value]


class Spoken(View):
    """A view with sentences for people in some of its fields. ``said`` has for each of them, by
    field, what it was made of, so that a face can say it in another language. Where a field has
    several, ``field.0`` has the first of them."""

    said: dict[str, Said] | None = None

    @model_validator(mode="before")
    @classmethod
    def _keep(cls, fields: Any) -> Any:
        # Before pydantic makes plain texts of them.
        if not isinstance(fields, Mapping):
            return fields
        said = {key: Said.of(text) for key, text in _sentences(fields)}
        return {**fields, "said": {**(fields.get("said") or {}), **said}} if said else fields

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown: dict[str, Any] = serialize(self)
        if shown.get("said", self) is None:
            del shown["said"]
        return shown


def _sentences(fields: Mapping[str, Any]) -> Iterator[tuple[str, Sentence]]:
    for key, value in fields.items():
        if isinstance(value, Sentence):
            yield key, value
        elif isinstance(value, tuple):
            yield from (
                (f"{key}.{number}", one)
                for number, one in enumerate(value)
                if isinstance(one, Sentence)
            )


class PageInfo(View):
    """``total`` counts all that was found; the page has at most ``limit``, from ``offset`` on."""

    limit: int
    offset: int
    total: int


class Paged(View):
    """A view with a part of what was found as its ``items``."""

    items: tuple[Any, ...]
    page: PageInfo


class Page[V: View](Paged):
    """A part of what was found."""

    items: tuple[V, ...]


class Secret(View):
    """In the place of a password."""

    set: bool


class Entry(Spoken):
    """What every entry has. Times are ISO 8601 in UTC, and ``None`` in the policy file.

    ``etag`` is another after each change. ``problem`` says why an entry of the registry cannot be
    used, as it lies in the database; empty if it can.
    """

    id: str
    source: Source
    etag: str = ""
    created_at: str | None = None
    updated_at: str | None = None
    problem: str = ""


def entry_fields(stored: Stored) -> dict[str, Any]:
    """The fields of ``Entry`` for an entry of the registry."""
    return {
        "id": stored.id,
        "source": "registry",
        "etag": stored.etag,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
        "problem": stored.problem,
    }


def as_text(value: object) -> str:
    """The text of a column that may hold anything."""
    return "" if value is None else str(value)


def as_number(value: object) -> int:
    """The number of a column that may hold anything."""
    return value if type(value) is int else 0
