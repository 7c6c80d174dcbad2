"""Writes to the pools of the registry."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update

from ..errors import InUse, InvalidEntry, NotFound
from ..model.rule import Pool, unavailable
from .change import Change, NamedEntry
from .records import Row, StoredPool
from .schema import pool_members, pools
from .usage import usage_of_pool
from .validation import require_id, require_match, validate

_COLUMNS = ("name", "strategy", "sticky_by", "sticky_minutes")


class PoolTable:
    """Raises as ``ProxyTable`` does."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def create(self, fields: Mapping[str, object]) -> StoredPool:
        """``fields`` are those of ``Pool``; ``members`` are names of proxies."""
        pool = validate(Pool, fields)
        _require_available(pool)
        self._change.require_free_name(pool.name)
        members = self._members(pool.members)
        row = {**self._change.birth(), **{key: getattr(pool, key) for key in _COLUMNS}}
        self._change.connection.execute(insert(pools), [row])
        self._set_members(row["id"], members)
        return self._change.reader.pool(self._change.connection, row["id"])

    def update(
        self, id_: str, changes: Mapping[str, object], if_match: str | None = None
    ) -> StoredPool:
        """Only the fields that ``changes`` has are changed."""
        row = self._require(id_, if_match)
        stored = {key: row[key] for key in _COLUMNS}
        pool = validate(Pool, {**stored, "members": (), **changes})
        if "strategy" in changes:
            _require_available(pool)
        if pool.name != row["name"]:
            self._change.require_free_name(pool.name)
        members = self._members(pool.members) if "members" in changes else None
        columns = {key: getattr(pool, key) for key in _COLUMNS}
        this = pools.c.id == id_
        self._change.connection.execute(
            update(pools).where(this).values({**columns, **self._change.stamp})
        )
        if pool.name != row["name"]:
            self._change.touch_users("pool", id_)
        if members is not None:
            self._set_members(id_, members)
        return self._change.reader.pool(self._change.connection, id_)

    def delete(self, id_: str, *, force: bool = False, if_match: str | None = None) -> None:
        """Raises ``InUse`` if a rule names it; with ``force`` the rule refuses from then on."""
        row = self._require(id_, if_match)
        connection, this = self._change.connection, pools.c.id == id_
        usage = usage_of_pool(connection, id_)
        if usage.count and not force:
            raise InUse(f"Pool {row['name']} is in use by {usage.count}", usage)
        self._remove_members(id_)
        if not usage.count:
            connection.execute(delete(pools).where(this))
            return
        grave = {"deleted_at": self._change.now, **self._change.stamp}
        connection.execute(update(pools).where(this).values(grave))
        self._change.touch_users("pool", id_)

    def _members(self, names: Sequence[str]) -> list[Row]:
        """The columns of the members that are called so."""
        found = self._change.find_all(names)
        members = [self._member(name, found.get(name)) for name in names]
        if {"ipv4", "ipv6"} <= {member["family"] for member in members}:
            raise InvalidEntry("members pinned to ipv4 and to ipv6 cannot be mixed", "members")
        return [{"proxy_id": member["id"], "name": member["name"]} for member in members]

    def _member(self, name: str, found: NamedEntry | None) -> Row:
        if found and found.kind == "proxy":
            return {"id": found.id, "family": found.family, "name": ""}
        if name in self._change.elsewhere.proxies:
            return {"id": None, "family": "auto", "name": name}
        raise InvalidEntry(f"{name!r} names no proxy", "members")

    def _set_members(self, id_: str, members: list[Row]) -> None:
        self._remove_members(id_)
        rows = [
            {"pool_id": id_, "position": position, **member}
            for position, member in enumerate(members)
        ]
        if rows:
            self._change.connection.execute(insert(pool_members), rows)

    def _remove_members(self, id_: str) -> None:
        members = pool_members.c.pool_id == id_
        self._change.connection.execute(delete(pool_members).where(members))

    def _require(self, id_: str, if_match: str | None) -> dict[str, Any]:
        living = (pools.c.id == require_id(id_)) & pools.c.deleted_at.is_(None)
        row = self._change.connection.execute(select(pools).where(living)).one_or_none()
        if row is None:
            raise NotFound("There is no such pool")
        require_match(row.revision, if_match)
        return row._asdict()


def _require_available(pool: Pool) -> None:
    """Raises ``InvalidEntry``: a pool that would refuse every flow is not saved."""
    if why := unavailable(pool.strategy):
        raise InvalidEntry(why, "strategy")
