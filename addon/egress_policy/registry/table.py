"""Writes to the entries of one kind. What a kind needs beside its description is a hook.

The whole of a kind that has a name, and nothing special:

    class TagTable(Table[Tag, StoredEntry[Tag]]):
        noun, plural, model, table = "tag", "tags", Tag, schema.tags
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, cast

from pydantic import BaseModel
from sqlalchemy import Insert, delete, insert, select, update

from ..errors import InvalidEntry
from ..sentence import Sentence
from .reading import Reader, stored_fields
from .records import Row, Stored, StoredEntry
from .validation import validate

Fields = Mapping[str, object]
_HIDDEN: Final = ("password", "url", "deleted_at", "members")
"""Left out of ``raw``: secrets, the mark that no living entry has, and rows of another table."""


class Table[M: BaseModel, E: Stored](Reader[E]):
    """Raises ``InvalidEntry`` for fields that are wrong, ``NotFound`` for an unknown id and
    ``Conflict`` if ``if_match`` is not the etag."""

    model: ClassVar[type[BaseModel]]
    """Its fields are those of an entry. Those that ``table`` has are stored as they are."""
    record: ClassVar[type[StoredEntry[Any]]] = StoredEntry
    _insert: ClassVar[Insert]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "table" in vars(cls):
            cls._insert = insert(cls.table)

    def create(self, fields: Fields, /) -> E:
        """``fields`` are those of the model; what is left out has its default."""
        value = self._validate(fields)
        return self._record(self._add(value, fields), value)

    def update(self, id_: str, changes: Fields, if_match: str | None = None) -> E:
        """Only the fields that ``changes`` has are changed."""
        row = self.row(id_, if_match)
        value = self._validate(self._merge(row, changes))
        checked = self._check(value, changes, row)
        columns = {**self._columns(id_, value, changes), **self._transaction.stamp}
        self._change(id_, columns)
        self._written(id_, value, checked, row)
        return self.one(id_)

    def delete(self, id_: str, *, force: bool = False, if_match: str | None = None) -> None:  # noqa: ARG002
        """Nothing names an entry of this kind, so it goes with or without ``force``."""
        self._remove(self.row(id_, if_match))

    def _add(self, value: M, fields: Fields, id_: str = "", **columns: object) -> Row:
        """Insert a row, with ``columns`` beside those of the value."""
        checked = self._check(value, fields, None)
        row = {**self._transaction.birth(id_), **columns}
        row |= self._columns(row["id"], value, fields)
        self._insert_row(row)
        self._written(row["id"], value, checked, None)
        return row

    # -- the statements

    def _insert_row(self, row: Row) -> None:
        self._connection.execute(self._insert, [row])

    def _change(self, id_: str, columns: Row) -> None:
        self._connection.execute(update(self.table).where(self.table.c.id == id_).values(columns))

    def _remove(self, row: Row) -> None:
        self._connection.execute(delete(self.table).where(self.table.c.id == row["id"]))

    # -- hooks

    def _validate(self, fields: Fields) -> M:
        return cast(M, validate(self.model, fields))

    def _merge(self, row: Row, changes: Fields) -> Fields:
        """The fields of an entry as they are to be."""
        return {**self._fields(row), **changes}

    def _check(self, value: M, fields: Fields, row: Row | None) -> Any:  # noqa: ARG002
        """Raises ``InvalidEntry`` if an entry cannot stand beside the others. ``row`` is what it
        is changed from, ``fields`` are those that are given. Returns what ``_written`` needs."""
        name: str = getattr(value, "name", "")
        if name and (row is None or name != row["name"]):
            self._require_free_name(name)

    def _require_free_name(self, name: str) -> None:
        query = select(self.table.c.id).where(self.table.c.name == name)
        if self._connection.execute(query).first():
            raise name_twice(name)

    def _columns(self, id_: str, value: M, fields: Fields) -> dict[str, Any]:  # noqa: ARG002
        """The columns that a value comes to."""
        columns = self.table.c
        return {key: getattr(value, key) for key in self.model.model_fields if key in columns}

    def _written(self, id_: str, value: M, checked: Any, row: Row | None) -> None:
        """Called behind each write, for what lies in other tables."""

    def _fields(self, row: Row) -> dict[str, Any]:
        """The fields that a row has; those that are missing have their defaults."""
        names = self.model.model_fields
        return {key: row[key] for key in names if row.get(key) is not None}

    def _value(self, row: Row) -> M:
        """Raises ``InvalidEntry`` for a row, edited by hand, that cannot be used."""
        return self._validate(self._fields(row))

    def _record(self, row: Row, value: M | None, problem: str = "") -> E:
        raw = dict(row)
        for key in _HIDDEN:
            raw.pop(key, None)
        entry = self.record(
            **stored_fields(row),
            problem=problem,
            name=str(row["name"]),
            raw=MappingProxyType(raw),
            value=value,
        )
        return cast(E, entry)

    def _stored(self, row: Row) -> E:
        try:
            return self._record(row, self._value(row))
        except InvalidEntry as error:
            return self._record(row, None, error.text)


def name_twice(name: str) -> InvalidEntry:
    return InvalidEntry(Sentence("name_twice", "{name!r} is used twice", name=name), "name")
