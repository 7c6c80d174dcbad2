"""Pools of proxies: how they are shown and changed."""

from collections.abc import Iterable
from functools import partial
from typing import Any, override

from ..model.pool import Checks, Member, Pool
from ..registry.records import StoredPool
from .kind import Kind, Row
from .views import FILE_ID, Entry, as_number, as_text, entry_fields


class PoolView(Entry):
    """A pool. ``used_by`` counts the rules that name it. A member is its name alone where it
    weighs 1."""

    name: str
    members: tuple[Member, ...] = ()
    strategy: str
    sticky_by: str
    sticky_minutes: int
    failover: int = 1
    seed: int | None = None
    checks: Checks | None = None
    used_by: int = 0


class Pools(Kind[PoolView]):
    noun, plural, model, view = "pool", "pools", Pool, PoolView
    is_named = True

    @override
    def _rows(self) -> Iterable[Row[PoolView]]:
        for pool in self._in_force.filed.pools:
            yield Row(FILE_ID + pool.name, pool.name, partial(self._view, pool))
        for stored in self._in_force.stored.pools:
            yield Row(stored.id, stored.name, partial(self._view, stored))

    def _view(self, entry: Pool | StoredPool) -> PoolView:
        used_by = self._uses.count(entry.name)
        if isinstance(entry, Pool):
            about = {"id": FILE_ID + entry.name, "source": "file"}
            return PoolView(**about, **vars(entry), used_by=used_by)
        fields = vars(entry.pool) if entry.pool else _raw_fields(entry)
        return PoolView(**entry_fields(entry), **fields, used_by=used_by)


def _raw_fields(stored: StoredPool) -> dict[str, Any]:
    """What the database has; a pool that cannot be read is shown without members and checks."""
    raw = stored.raw
    numbers = {key: as_number(raw.get(key)) for key in ("sticky_minutes", "failover")}
    return {
        "name": stored.name,
        "strategy": as_text(raw.get("strategy")),
        "sticky_by": as_text(raw.get("sticky_by")),
        **numbers,
    }
