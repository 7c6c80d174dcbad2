"""Pools of proxies: how they are shown and changed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, override

from ..model.rule import Pool
from ..registry.records import StoredPool
from .kind import Kind, Row
from .upkeep import Upkeep
from .usage import UsageView, Uses
from .views import FILE_ID, Entry, as_text, entry_fields

if TYPE_CHECKING:
    from ..registry.pools import PoolTable
    from ..registry.registry import Edit


class PoolView(Entry):
    """A pool. ``used_by`` counts the rules that name it."""

    name: str
    members: tuple[str, ...] = ()
    strategy: str
    sticky_by: str
    sticky_minutes: int
    used_by: int = 0


class Pools(Kind[PoolView]):
    noun, plural, model, view = "pool", "pools", Pool, PoolView
    is_named = True

    def __init__(self, upkeep: Upkeep, uses: Uses) -> None:
        super().__init__(upkeep)
        self._uses = uses

    @override
    def usage(self, key: str) -> UsageView:
        """What names a pool."""
        return self._uses.of(self.row(key).name)

    @override
    def _table(self, edit: "Edit") -> "PoolTable":
        return edit.pools

    @override
    def _rows(self) -> Iterable[Row[PoolView]]:
        file, state = self._in_force.file, self._in_force.state
        for pool in file.pools if file else ():
            yield self._file_row(pool)
        for stored in state.pools if state else ():
            yield self._registry_row(stored)

    def _file_row(self, pool: Pool) -> Row[PoolView]:
        id_, used_by = FILE_ID + pool.name, self._uses.count(pool.name)
        view = lambda: PoolView(id=id_, source="file", **pool.model_dump(), used_by=used_by)  # noqa: E731
        return Row(id_, pool.name, view)

    def _registry_row(self, stored: StoredPool) -> Row[PoolView]:
        used_by = self._uses.count(stored.name)

        def view() -> PoolView:
            fields = stored.pool.model_dump() if stored.pool else _raw_fields(stored)
            return PoolView(**entry_fields(stored), **fields, used_by=used_by)

        return Row(stored.id, stored.name, view)


def _raw_fields(stored: StoredPool) -> dict[str, Any]:
    raw = stored.raw
    return {
        "name": stored.name,
        "strategy": as_text(raw.get("strategy")),
        "sticky_by": as_text(raw.get("sticky_by")),
        "sticky_minutes": raw["sticky_minutes"] if type(raw.get("sticky_minutes")) is int else 0,
    }
