"""Reads the entries of one kind: one of them, or all at one moment.

A change of one entry makes every node read thousands again. So it reads and checks only entries
whose etag has changed; the others stay the same objects.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from operator import attrgetter
from typing import Any, ClassVar, Final

import sqlalchemy
from sqlalchemy import Connection, Select, Text, cast, func, select

from ..errors import NotFound
from ..sentence import Sentence
from .records import Row, Stored
from .transaction import Transaction
from .validation import require_id, require_match

_FEW: Final = 500
"""How many entries are read by their ids, rather than with all the others."""
_NAME: Final = attrgetter("name")


class Reader[E: Stored](ABC):
    """A subclass describes a kind: what its entries are called, and the table they lie in."""

    noun: ClassVar[str]
    plural: ClassVar[str]
    """The name of the kind in ``Edit`` and ``RegistryState``."""
    table: ClassVar[sqlalchemy.Table]
    query: ClassVar[Select[Any]]
    """The rows of all entries, by default those of ``table`` that were not deleted."""
    _count_and_heads: ClassVar[Any]
    """The number of entries and one text, with a line for each of its id, revision and time. One
    text leaves little to do for each entry where there are thousands."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "table" not in vars(cls):  # not a kind yet
            return
        table = cls.table
        if "query" not in vars(cls):
            living = [table.c.deleted_at.is_(None)] if "deleted_at" in table.c else []
            cls.query = select(table).where(*living)
        # Behind a backup that was restored revisions are counted again, at other times.
        head = table.c.id + " " + cast(table.c.revision, Text) + " " + table.c.updated_at
        listed = cls.query.with_only_columns(head.label("head")).subquery()
        cls._count_and_heads = select(
            func.count(), func.aggregate_strings(listed.c.head, "\n")
        ).select_from(listed)

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._connection = transaction.connection

    def all(self, known: Iterable[E] = ()) -> list[E]:
        """All entries in order. An entry that has its etag in ``known`` is taken from there."""
        return self._in_order(self._read_all(known))

    def one(self, id_: str) -> E:
        """Raises ``NotFound``."""
        [entry] = self._read([self.row(id_)], [id_])
        return entry

    def row(self, id_: str, if_match: str | None = None) -> Row:
        """The columns of an entry. Raises ``NotFound``, and ``Conflict`` if ``if_match`` is not
        its etag."""
        this = self.table.c.id == require_id(id_)
        for row in fetch(self._connection, self.query.where(this)):
            require_match(row["revision"], if_match)
            return row
        raise NotFound(Sentence("no_such_entry", "There is no such {noun}", noun=self.noun))

    @abstractmethod
    def _stored(self, row: Row) -> E:
        """A row as an entry. What is wrong with it is the problem of the entry."""

    def _read(self, rows: Iterable[Row], only: Collection[str] | None) -> list[E]:  # noqa: ARG002
        """Rows as entries. ``only`` are their ids, ``None`` if they are all there are."""
        return [self._stored(row) for row in rows]

    def _in_order(self, entries: list[E]) -> list[E]:
        """The entries as lists have them: the database sorts names in ways of its own."""
        return sorted(entries, key=_NAME)

    def _read_all(self, known: Iterable[E]) -> list[E]:
        by_head = {_head(entry): entry for entry in known}
        heads = self._heads() if by_head else None
        stale = [head.rsplit(" ", 2)[0] for head in heads or () if head not in by_head]
        if heads is None or len(stale) > _FEW:
            return self._read(fetch(self._connection, self.query), None)
        if stale:
            rows = fetch(self._connection, self.query.where(self.table.c.id.in_(stale)))
            by_head.update({_head(one): one for one in self._read(rows, stale)})
        try:
            return [by_head[head] for head in heads]
        except KeyError:  # the database writes a revision, edited by hand, in another way
            return self._read(fetch(self._connection, self.query), None)

    def _heads(self) -> list[str] | None:
        """The ``_head`` of each entry, ``None`` if one, edited by hand, leaves them in doubt."""
        count, text = self._connection.execute(self._count_and_heads).one()
        heads: list[str] = text.split("\n") if text else []
        return heads if len(heads) == count else None


def _head(entry: Stored) -> str:
    """What changes whenever the entry does."""
    return f"{entry.id} {entry.etag} {entry.updated_at}"


def fetch(connection: Connection, query: Select[Any]) -> Iterable[Row]:
    """The rows, as the driver has them: there may be many."""
    result = connection.execute(query)
    cursor: Any = result.cursor
    keys, rows = list(result.keys()), cursor.fetchall()
    result.close()
    return (dict(zip(keys, row, strict=True)) for row in rows)


def stored_fields(row: Row) -> dict[str, Any]:
    """The fields of ``Stored``, its problem excepted."""
    return {
        "id": row["id"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "etag": str(row["revision"]),
    }
