"""Entries of one kind, as the faces list and change them. Entries of the policy file are read-only,
entries of the registry can be changed.

A kind describes its rows and names its table in the registry. Listing, showing, creating, changing
and deleting work alike for all kinds. Reads come from memory; a change returns when it is in the
database and in force.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_not
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from pydantic import BaseModel

from ..errors import InvalidEntry, NotFound, ReadOnly
from ..registry.records import Stored
from ..sentence import Sentence
from .upkeep import Upkeep
from .usage import UsageView, Uses
from .views import FILE_ID, Entry, Page, PageInfo

if TYPE_CHECKING:
    from ..registry.registry import Edit

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Row[V: Entry]:
    """What lists need of an entry; ``view`` makes all of it."""

    id: str
    name: str
    view: Callable[[], V]


class EntryChanges(Protocol):
    """The changes of a kind, within one edit of the registry."""

    def create(self, fields: Fields, /) -> Stored: ...
    def update(self, id_: str, changes: Fields, if_match: str | None = None, /) -> Stored: ...
    def delete(self, id_: str, /, *, force: bool = False, if_match: str | None = None) -> None: ...


class Kind[V: Entry](ABC):
    """A key is the id or the name of an entry.

    Methods raise ``NotFound``. Changes also raise the errors of ``Upkeep.change``, and ``ReadOnly``
    for an entry of the policy file.
    """

    noun: ClassVar[str]
    plural: ClassVar[str]
    model: ClassVar[type[BaseModel]]
    """Its fields are those of an entry; ``plural`` is also the name of the kind in the registry."""
    view: ClassVar[type[Entry]]
    is_named: ClassVar[bool] = False
    """Whether others may name an entry."""

    def __init__(self, upkeep: Upkeep, uses: Uses | None = None) -> None:
        self._upkeep = upkeep
        self._uses = uses or Uses(upkeep.in_force)
        self._in_force = upkeep.in_force
        self._known: tuple[tuple[object, ...], Sequence[Row[V]], dict[str, Row[V]]] | None = None

    @abstractmethod
    def _rows(self) -> Iterable[Row[V]]:
        """All entries in the order of lists. A name finds the first entry that has it."""

    def rows(self) -> Sequence[Row[V]]:
        """All entries; computed once for each state of file and registry."""
        return self._catalog()[0]

    async def prepare(self) -> None:
        """Make what lists need, in a thread if that is not made yet. Without this they make it
        themselves, which takes time where there are thousands of entries."""
        if not self._is_made():
            await asyncio.to_thread(self._catalog)

    def list(self, *, limit: int = 50, offset: int = 0) -> Page[V]:
        return page(self.rows(), limit, offset)

    def show(self, key: str) -> V:
        return self.row(key).view()

    def usage(self, key: str) -> UsageView:
        """What names an entry. Raises ``InvalidEntry`` for a kind that nothing can name."""
        if not self.is_named:
            raise InvalidEntry(
                Sentence("nothing_names", "nothing names a {noun}", noun=self.noun), "where_used"
            )
        return self._uses.of(self.row(key).name)

    def row(self, key: str) -> Row[V]:
        row = self._catalog()[1].get(key)
        if row is None:
            raise NotFound(Sentence("no_such_entry", "There is no such {noun}", noun=self.noun))
        return row

    def _table(self, edit: "Edit") -> EntryChanges:
        return cast(EntryChanges, edit.tables[self.plural])

    async def create(self, fields: Fields) -> V:
        return await self._write(lambda edit: self._table(edit).create(fields))

    async def update(self, key: str, changes: Fields, if_match: str | None = None) -> V:
        """Change only the fields in ``changes``."""
        id_ = await self.find_own(key)
        return await self._write(lambda edit: self._table(edit).update(id_, changes, if_match))

    async def delete(self, key: str, *, force: bool = False, if_match: str | None = None) -> None:
        id_ = await self.find_own(key)
        await self._upkeep.change(
            lambda edit: self._table(edit).delete(id_, force=force, if_match=if_match)
        )

    async def _write(self, edit: "Callable[[Edit], Stored]") -> V:
        stored = await self._upkeep.change(edit)
        await asyncio.to_thread(self._catalog)
        return self.show(stored.id)

    async def find_own(self, key: str) -> str:
        """The id of an entry of the registry. Raises ``ReadOnly`` for one of the policy file."""
        await asyncio.to_thread(self._catalog)
        row = self.row(key)
        require_own(row)
        return row.id

    # After an edit this may build thousands of rows: changes do it in a thread first.
    def _catalog(self) -> tuple[Sequence[Row[V]], dict[str, Row[V]]]:
        made_of, known = self._made_of(), self._known
        if known is None or not self._is_made():
            rows = tuple(self._rows())
            by_key = {row.name: row for row in reversed(rows)}
            known = self._known = (made_of, rows, by_key | {row.id: row for row in rows})
        return known[1:]

    def _made_of(self) -> tuple[object, ...]:
        in_force = self._in_force
        return in_force.file, in_force.state, in_force.policy

    def _is_made(self) -> bool:
        return self._known is not None and not any(map(is_not, self._known[0], self._made_of()))


def require_own(row: Row[Any]) -> None:
    """Raises ``ReadOnly`` for an entry of the policy file."""
    if row.id.startswith(FILE_ID):
        raise ReadOnly(
            Sentence("read_only", "This entry belongs to the policy file; change it there")
        )


def page[V: Entry](rows: Sequence[Row[V]], limit: int, offset: int) -> Page[V]:
    """One page of the rows, as views."""
    items = tuple(row.view() for row in rows[offset : offset + limit])
    return Page(items=items, page=PageInfo(limit=limit, offset=offset, total=len(rows)))
