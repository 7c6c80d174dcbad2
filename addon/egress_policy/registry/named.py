"""Proxies and pools: entries that others name. They share one name space and outlive a forced
deletion as a mark, so that what named them refuses."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, override

from pydantic import BaseModel
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    union_all,
    update,
)

from ..errors import InUse, InvalidEntry, Ref, Usage
from ..model.rule import is_reserved, name_conflicts, name_of_deleted
from ..sentence import Sentence
from .records import Row, StoredEntry
from .schema import assignments, metadata, pools, proxy_registry, rules
from .table import Fields, Table, name_twice
from .transaction import Transaction

BLOCK: Final = 500
"""How many names one query asks for. Databases limit the parameters of a statement."""


class NamedEntry(NamedTuple):
    """What has a name: its ``kind`` (proxy or pool), id, name and, if it is a proxy, family."""

    kind: str
    id: str
    name: str
    family: str


def _named(fits: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> CompoundSelect[Any]:
    """The query for those whose names fit, proxies first."""
    kinds = ("proxy", proxy_registry, proxy_registry.c.family), ("pool", pools, literal("auto"))
    living = (
        select(literal(kind).label("kind"), table.c.id, table.c.name, family.label("family"))
        .where(fits(table.c.name))
        .where(table.c.deleted_at.is_(None))
        for kind, table, family in kinds
    )
    return union_all(*living)


_NUMBERED: Final = select(
    rules.c.id,
    rules.c.name,
    func.row_number().over(order_by=(rules.c.position, rules.c.id)).label("number"),
).subquery()
_NUMBER: Final = "#" + cast(_NUMBERED.c.number, Text)
_LABELS: Final[Mapping[str, Select[Any]]] = {
    "pools": select(pools.c.id, pools.c.name).order_by(pools.c.name),
    "rules": select(
        _NUMBERED.c.id, case((_NUMBERED.c.name == "", _NUMBER), else_=_NUMBERED.c.name)
    ).order_by(_NUMBERED.c.number),
    "assignments": select(
        assignments.c.id, assignments.c.scope + ":" + assignments.c.scope_id
    ).order_by(assignments.c.scope, assignments.c.scope_id),
}
"""What people call those that can name an entry, by their tables."""


_BY_NAME: Final = _named(lambda name: name == bindparam("name"))
_BY_NAMES: Final = _named(lambda name: name.in_(bindparam("names", expanding=True)))


def find(transaction: Transaction, name: str) -> NamedEntry | None:
    """The proxy or pool that is called so."""
    found = transaction.connection.execute(_BY_NAME, {"name": name}).first()
    return NamedEntry(*found) if found else None


def find_all(transaction: Transaction, names: Sequence[str]) -> dict[str, NamedEntry]:
    """The proxies and pools that are called so, by their names."""
    blocks = [names[start : start + BLOCK] for start in range(0, len(names), BLOCK)]
    rows = (
        row
        for block in blocks
        for row in transaction.connection.execute(_BY_NAMES, {"names": block})
    )
    # If a pool has the name of a proxy, which only an edit by hand can do, it is the proxy.
    return {row.name: NamedEntry(*row) for row in sorted(rows, key=lambda row: row.kind)}


def require_free_name(transaction: Transaction, name: str) -> None:
    """Raises ``InvalidEntry`` if a proxy or pool cannot be called that, or already is."""
    require_allowed_name(transaction, name)
    if find(transaction, name):
        raise name_twice(name)


def require_allowed_name(transaction: Transaction, name: str) -> None:
    """Raises ``InvalidEntry`` if no proxy or pool of the registry can be called that."""
    for _, message in name_conflicts([((), name)]):
        raise InvalidEntry(message, "name")
    if name in transaction.elsewhere.proxies or name in transaction.elsewhere.pools:
        raise InvalidEntry(
            Sentence("name_in_file", "{name!r} is used in the policy file", name=name), "name"
        )


def require_own_name(name: object, taken: Collection[str] = ()) -> str:
    """Raises ``InvalidEntry`` for a stored name that is reserved, taken or read as another."""
    text = str(name)
    if is_reserved(text) or text != text.strip() or text in taken:
        raise InvalidEntry(
            Sentence("stored_name", "the stored name {name!r} is not allowed", name=text[:40]),
            "name",
        )
    return text


def referred_columns(kind: str) -> tuple[ColumnElement[Any], ...]:
    """What ``reference`` looks at, beside the id: columns of the proxy or pool that is joined."""
    table = {"proxy": proxy_registry, "pool": pools}[kind]
    return table.c.name.label(f"{kind}_name"), table.c.deleted_at.label(f"{kind}_deleted_at")


def reference(row: Row, kind: str) -> str | None:
    """The name of the proxy or pool that a row refers to, if it refers to one.

    One that was deleted gets a name that nothing has; its row may be gone as well. Raises
    ``InvalidEntry`` for a name that would mean something else in a rule.
    """
    id_, name = row[f"{kind}_id"], row[f"{kind}_name"]
    if id_ is None:
        return None
    if name is None or row[f"{kind}_deleted_at"] is not None:
        return name_of_deleted(name or kind, id_)
    return require_own_name(name)


class NamedTable[M: BaseModel, E: StoredEntry[Any]](Table[M, E]):
    """A kind that others name."""

    buried: ClassVar[Fields] = {}
    """The columns of an entry that was deleted while it is named."""
    _taken: Collection[str] = frozenset()
    """Names that entries of this kind have without a right to them."""

    @override
    def delete(self, id_: str, *, force: bool = False, if_match: str | None = None) -> None:
        """Raises ``InUse`` if something names it. With ``force`` that refuses from then on: the
        row stays, marked and without credentials."""
        row, usage = self.row(id_, if_match), self._usage(id_)
        if usage.count and not force:
            name = f"{self.noun.capitalize()} {row['name']}"
            raise InUse(
                Sentence("in_use", "{name} is in use by {count}", name=name, count=usage.count),
                usage,
            )
        if usage.count:
            self._bury(id_)
        else:
            self._remove(row)

    @override
    def _require_free_name(self, name: str) -> None:
        require_free_name(self._transaction, name)

    @override
    def _value(self, row: Row) -> M:
        value = super()._value(row)
        require_own_name(row["name"], self._taken)
        return value

    @override
    def _written(self, id_: str, value: M, checked: Any, row: Row | None) -> None:
        if row and getattr(value, "name", None) != row["name"]:
            self._touch_users(id_)

    def _bury(self, id_: str) -> None:
        """Mark an entry as deleted, for what still names it."""
        columns = {"deleted_at": self._transaction.now, **self.buried, **self._transaction.stamp}
        self._connection.execute(update(self.table).where(self.table.c.id == id_).values(columns))
        self._touch_users(id_)

    def _users(self, id_: str) -> dict[str, Select[Any]]:
        """The ids of what names an entry, by their tables."""
        return {"rules": select(rules.c.id).where(rules.c[f"{self.noun}_id"] == id_)}

    def _usage(self, id_: str) -> Usage:
        """What names an entry, and what people call it."""
        found: dict[str, tuple[Ref, ...]] = {}
        for table, ids in self._users(id_).items():
            labels = _LABELS[table]
            rows = self._connection.execute(labels.where(labels.selected_columns[0].in_(ids)))
            found[table] = tuple(Ref(*row) for row in rows)
        return Usage(**found)

    def _touch_users(self, id_: str) -> None:
        """Count the change of a name as one of all that name it."""
        for name, ids in self._users(id_).items():
            table, revision = metadata.tables[name], self._transaction.revision
            self._connection.execute(
                update(table).where(table.c.id.in_(ids)).values(revision=revision)
            )
