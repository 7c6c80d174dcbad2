"""The pools of the registry, and their members."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, override

from sqlalchemy import delete, insert, select

from ..errors import InvalidEntry
from ..model.pool import Member, Pool
from ..sentence import Sentence
from .hop import read_json
from .named import NamedEntry, NamedTable, find_all, reference, referred_columns
from .reading import fetch
from .records import Row, StoredPool
from .schema import pool_members, pools, proxy_registry
from .table import Fields

_MEMBERS: Final = (
    select(pool_members, *referred_columns("proxy"))
    .outerjoin(proxy_registry, proxy_registry.c.id == pool_members.c.proxy_id)
    .order_by(pool_members.c.pool_id, pool_members.c.position)
)
_TAKEN: Final = (
    select(pools.c.name)
    .join(proxy_registry, proxy_registry.c.name == pools.c.name)
    .where(pools.c.deleted_at.is_(None), proxy_registry.c.deleted_at.is_(None))
)
"""Names that a pool and a proxy have: only an edit by hand gives one to both."""


class PoolTable(NamedTable[Pool, StoredPool]):
    """``members`` are names of proxies."""

    noun, plural, model, record, table = "pool", "pools", Pool, StoredPool, pools

    # -- reading

    @override
    def all(self, known: Iterable[StoredPool] = ()) -> list[StoredPool]:
        # Whether a pool has the name of a proxy is not in its etag.
        self._taken = frozenset(self._connection.execute(_TAKEN).scalars())
        return super().all(one for one in known if one.value and one.name not in self._taken)

    @override
    def _read(self, rows: Iterable[Row], only: Collection[str] | None) -> list[StoredPool]:
        query = _MEMBERS if only is None else _MEMBERS.where(pool_members.c.pool_id.in_(only))
        members: defaultdict[str, list[Row]] = defaultdict(list)
        for member in fetch(self._connection, query):
            members[member["pool_id"]].append(member)
        return [self._stored({**row, "members": members[row["id"]]}) for row in rows]

    @override
    def _fields(self, row: Row) -> dict[str, Any]:
        fields = super()._fields(row)
        if "checks" in fields:
            fields["checks"] = read_json(fields["checks"])
        return {**fields, "members": [_member(member) for member in row.get("members", ())]}

    @override
    def _columns(self, id_: str, value: Pool, fields: Fields) -> dict[str, Any]:
        checks = value.checks.model_dump_json(exclude_none=True) if value.checks else None
        return {**super()._columns(id_, value, fields), "checks": checks}

    # -- writing

    @override
    def _check(self, value: Pool, fields: Fields, row: Row | None) -> list[Row] | None:
        """The columns of the members, ``None`` where they stay."""
        super()._check(value, fields, row)
        return self._members(value.members) if "members" in fields else None

    @override
    def _written(self, id_: str, value: Pool, checked: list[Row] | None, row: Row | None) -> None:
        super()._written(id_, value, checked, row)
        if checked is not None:
            self._remove_members(id_)
            rows = [{"pool_id": id_, "position": n, **one} for n, one in enumerate(checked)]
            if rows:
                self._connection.execute(insert(pool_members), rows)

    @override
    def _bury(self, id_: str) -> None:
        super()._bury(id_)
        self._remove_members(id_)

    def _remove_members(self, id_: str) -> None:
        self._connection.execute(delete(pool_members).where(pool_members.c.pool_id == id_))

    def _members(self, members: Sequence[Member]) -> list[Row]:
        names = [member.name for member in members]
        found = find_all(self._transaction, names)
        meant = [self._meant(name, found.get(name)) for name in names]
        if {"ipv4", "ipv6"} <= {one["family"] for one in meant}:
            raise InvalidEntry(
                Sentence("members_mixed", "members pinned to ipv4 and to ipv6 cannot be mixed"),
                "members",
            )
        return [
            {"proxy_id": one["id"], "name": one["name"], "weight": member.weight}
            for one, member in zip(meant, members, strict=True)
        ]

    def _meant(self, name: str, found: NamedEntry | None) -> Row:
        """The proxy that a name means: its id, its family, and its name if the policy file has
        it."""
        if found and found.kind == "proxy":
            return {"id": found.id, "family": found.family, "name": ""}
        if name in self._transaction.elsewhere.proxies:
            return {"id": None, "family": "auto", "name": name}
        raise InvalidEntry(
            Sentence("names_no_proxy", "{name!r} names no proxy", name=name), "members"
        )


def _member(row: Row) -> object:
    """A row as a field of ``Pool``: by far the most members weigh 1, and are names alone."""
    name = reference(row, "proxy") or row["name"]
    return name if row["weight"] == 1 else {"name": name, "weight": row["weight"]}
