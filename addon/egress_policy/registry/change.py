"""What every write of one change shares: its transaction, its revision and time, its checks."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    bindparam,
    literal,
    select,
    union_all,
    update,
)

from ..errors import InvalidEntry
from ..model.rule import name_conflicts
from .reading import Reader
from .records import PolicyFileNames
from .schema import assignments, pool_members, pools, proxy_registry, rules
from .secrets import Cipher
from .validation import require_id


class NamedEntry(NamedTuple):
    """What has a name: its ``kind`` (proxy or pool), id, name and, if it is a proxy, family."""

    kind: str
    id: str
    name: str
    family: str


_BLOCK: Final = 500
"""How many names one query asks for. Databases limit the parameters of a statement."""


def _named(fits: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> CompoundSelect[Any]:
    """The query for those whose names fit, proxies first."""
    kinds = ("proxy", proxy_registry, proxy_registry.c.family), ("pool", pools, literal("auto"))
    return union_all(
        *(
            select(literal(kind), table.c.id, table.c.name, family)
            .where(fits(table.c.name))
            .where(table.c.deleted_at.is_(None))
            for kind, table, family in kinds
        )
    )


_NAMED: Final = _named(lambda name: name == bindparam("name"))
_ALL_NAMED: Final = _named(lambda name: name.in_(bindparam("names", expanding=True)))


@dataclass(frozen=True, slots=True)
class Change:
    """The transaction. ``now`` is ISO 8601."""

    connection: Connection
    revision: int
    now: str
    cipher: Cipher
    reader: Reader
    elsewhere: PolicyFileNames

    @property
    def stamp(self) -> dict[str, Any]:
        """The columns that say when an entry changed."""
        return {"revision": self.revision, "updated_at": self.now}

    def birth(self, id_: str = "") -> dict[str, Any]:
        """The columns that say who an entry is, and when it was made. ``id_`` is by default a
        new UUID."""
        chosen = require_id(id_) if id_ else str(uuid.uuid4())
        return {"id": chosen, "created_at": self.now, **self.stamp}

    def require_free_name(self, name: str) -> None:
        """Raises ``InvalidEntry`` if a proxy or pool cannot be called that, or already is."""
        for _, message in name_conflicts([((), name)]):
            raise InvalidEntry(message, "name")
        if name in self.elsewhere.proxies or name in self.elsewhere.pools:
            raise InvalidEntry(f"{name!r} is used in the policy file", "name")
        if self.find(name):
            raise InvalidEntry(f"{name!r} is used twice", "name")

    def find(self, name: str) -> NamedEntry | None:
        """The proxy or pool that is called so."""
        found = self.connection.execute(_NAMED, {"name": name}).first()
        return NamedEntry(*found) if found else None

    def find_all(self, names: Sequence[str]) -> dict[str, NamedEntry]:
        """By their names, the proxies and pools that are called so. If both are, it is the proxy,
        which only an edit by hand can do."""
        found: dict[str, NamedEntry] = {}
        for start in range(0, len(names), _BLOCK):
            asked = {"names": names[start : start + _BLOCK]}
            for row in self.connection.execute(_ALL_NAMED, asked):
                one = NamedEntry(*row)
                if one.kind == "proxy" or one.name not in found:
                    found[one.name] = one
        return found

    def touch_users(self, kind: str, id_: str) -> None:
        """Count the change of what an entry is called as one of all that name it."""
        naming = [rules.c[f"{kind}_id"] == id_]
        if kind == "proxy":
            of = select(pool_members.c.pool_id).where(pool_members.c.proxy_id == id_)
            naming += [assignments.c.proxy_id == id_, pools.c.id.in_(of)]
        for condition, table in zip(naming, (rules, assignments, pools), strict=False):
            touched = update(table).where(condition).values(revision=self.revision)
            self.connection.execute(touched)

    def require_filter(self, expression: str) -> None:
        """Raises ``InvalidEntry`` (field "filter") if it is no filter expression."""
        if expression and self.elsewhere.compile_filter:
            try:
                self.elsewhere.compile_filter(expression)
            except (ValueError, RecursionError) as error:
                raise InvalidEntry(f"not a filter expression: {error}", "filter") from error
