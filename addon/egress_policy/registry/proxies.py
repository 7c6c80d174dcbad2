"""The proxies of the registry."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import batched
from typing import Any, Final, override

from sqlalchemy import Select, bindparam, delete, select, update

from ..errors import EgressError, InUse, InvalidEntry, NotFound
from ..model.family import ProxyFamily
from ..model.proxy import Proxy
from ..sentence import Sentence
from .hop import hop_columns, read_hop
from .journal import forget
from .named import BLOCK, NamedTable
from .reading import fetch
from .records import Row, StoredProxy
from .schema import assignments, pool_members, proxy_registry, rules
from .table import Fields

_OTHER: Final[Mapping[ProxyFamily, ProxyFamily]] = {"ipv4": "ipv6", "ipv6": "ipv4"}


class ProxyTable(NamedTable[Proxy, StoredProxy]):
    """An empty password removes it."""

    noun, plural, model, record = "proxy", "proxies", Proxy, StoredProxy
    table = proxy_registry
    buried = {"username": "", "password": ""}  # noqa: RUF012 (a ClassVar there)

    @override
    def create(
        self, fields: Fields | Proxy, /, id_: str = "", subscription: str = ""
    ) -> StoredProxy:
        """``fields`` are those of ``Proxy``, which may be validated already. ``id_`` is one that
        the proxy had before, ``subscription`` the id of the one that brings it."""
        if id_ and self._connection.execute(select(1).where(self.table.c.id == id_)).first():
            raise InvalidEntry(Sentence("id_used", "this id is used already"), "id")
        proxy = fields if isinstance(fields, Proxy) else self._validate(_without_nulls(fields))
        row = self._add(proxy, {}, id_, subscription_id=subscription or None)
        return self._record(row, proxy)

    def change_all(
        self,
        ids: Sequence[str],
        changes: Fields,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
    ) -> dict[str, EgressError]:
        """Change the proxies of these ids alike, everything but their names. Tags are removed and
        added beside what each has. Returns the errors of those that stay as they are, by their
        ids."""
        failed: dict[str, EgressError] = {}
        able: dict[str, Proxy] = {}
        for id_, row in self._rows(ids, failed):
            try:
                fields = {**self._merge(row, changes)}
                tags = fields.get("tags", ())
                if (add_tags or remove_tags) and isinstance(tags, list | tuple):
                    kept = (one for one in tags if one not in remove_tags)
                    fields["tags"] = [*kept, *add_tags]
                able[id_] = self._validate(fields)
            except InvalidEntry as error:
                failed[id_] = error
        if "family" in changes:
            failed |= self._clashes(able)
        columns = [
            {"this_id": id_, **self._columns(id_, value, changes), **self._transaction.stamp}
            for id_, value in able.items()
            if id_ not in failed
        ]
        this = self.table.c.id == bindparam("this_id")
        for some in batched(columns, BLOCK):
            self._connection.execute(update(self.table).where(this), [*some])
        return failed

    def delete_all(self, ids: Sequence[str], *, force: bool = False) -> dict[str, EgressError]:
        """Delete the proxies of these ids. Returns the errors of those that stay, by their ids."""
        failed: dict[str, EgressError] = {}
        used = self._used()
        free = []
        for id_, row in self._rows(ids, failed):
            if id_ not in used:
                free.append(row)
                continue
            try:
                self.delete(id_, force=force)
            except InUse as error:
                failed[id_] = error
        for some in batched(free, BLOCK):
            gone = [row["id"] for row in some]
            self._connection.execute(delete(self.table).where(self.table.c.id.in_(gone)))
            forget(self._connection, *(row["name"] for row in some))
        return failed

    def _rows(
        self, ids: Sequence[str], failed: dict[str, EgressError]
    ) -> Iterable[tuple[str, Row]]:
        """The rows of these ids; ``failed`` gets those that have none."""
        for some in batched(ids, BLOCK):
            query = self.query.where(self.table.c.id.in_(some))
            found = {row["id"]: row for row in fetch(self._connection, query)}
            for id_ in some:
                if row := found.get(id_):
                    yield id_, row
                else:
                    failed[id_] = NotFound("There is no such proxy")

    def _used(self) -> set[str]:
        """The ids of all proxies that something names."""
        columns = pool_members.c.proxy_id, assignments.c.proxy_id, rules.c.proxy_id
        return {id_ for one in columns for id_ in self._connection.scalars(select(one).distinct())}

    def _clashes(self, values: Mapping[str, Proxy]) -> dict[str, EgressError]:
        """Why some of the proxies cannot get the families of these values, by their ids: where one
        member of a pool stays pinned to the other family, none beside it can change."""
        rows = self._connection.execute(
            select(
                pool_members.c.pool_id,
                proxy_registry.c.id,
                proxy_registry.c.name,
                proxy_registry.c.family,
            )
            .join(pool_members, pool_members.c.proxy_id == proxy_registry.c.id)
            .where(proxy_registry.c.deleted_at.is_(None))
        )
        pools: dict[str, list[Any]] = {}
        for row in rows:
            pools.setdefault(row.pool_id, []).append(row)
        stuck: dict[str, EgressError] = {}
        before = -1
        while len(stuck) > before:
            before = len(stuck)
            for members in pools.values():
                staying = [one for one in members if one.id not in values or one.id in stuck]
                for one in members:
                    other = _OTHER.get(values[one.id].family) if one.id in values else None
                    for beside in staying:
                        if other and one.id not in stuck and beside.family == other:
                            stuck[one.id] = _clash(beside.name, other)
        return stuck

    @override
    def _merge(self, row: Row, changes: Fields) -> Fields:
        # What is replaced may be unusable.
        replaced = {field: None for field in ("family", "password") if field in changes}
        return {**self._fields({**row, **replaced}), **_without_nulls(changes)}

    @override
    def _check(self, value: Proxy, fields: Fields, row: Row | None) -> None:
        super()._check(value, fields, row)
        if row and value.family != row["family"]:
            self._require_family_of_pools(row["id"], value.family)

    @override
    def _columns(self, id_: str, value: Proxy, fields: Fields) -> dict[str, Any]:
        return hop_columns(value, self._transaction.cipher, self.table.name, id_)

    @override
    def _fields(self, row: Row) -> dict[str, Any]:
        return read_hop(row, self._transaction.cipher, self.table.name)

    @override
    def _users(self, id_: str) -> dict[str, Select[Any]]:
        members = select(pool_members.c.pool_id).where(pool_members.c.proxy_id == id_)
        assigned = select(assignments.c.id).where(assignments.c.proxy_id == id_)
        return {"pools": members, "assignments": assigned, **super()._users(id_)}

    @override
    def _written(self, id_: str, value: Proxy, checked: None, row: Row | None) -> None:
        super()._written(id_, value, checked, row)
        if row and value.name != row["name"]:
            forget(self._connection, row["name"])

    @override
    def _remove(self, row: Row) -> None:
        super()._remove(row)
        forget(self._connection, row["name"])

    @override
    def _bury(self, id_: str) -> None:
        name = self.row(id_)["name"]
        super()._bury(id_)
        forget(self._connection, name)

    def _require_family_of_pools(self, id_: str, family: ProxyFamily) -> None:
        """Raises ``InvalidEntry`` if a pool has this proxy and one of the other family."""
        other = _OTHER.get(family)
        beside = pool_members.alias()
        clash = (
            select(proxy_registry.c.name)
            .join(beside, beside.c.proxy_id == proxy_registry.c.id)
            .join(pool_members, pool_members.c.pool_id == beside.c.pool_id)
            .where(pool_members.c.proxy_id == id_, proxy_registry.c.id != id_)
            .where(proxy_registry.c.family == other, proxy_registry.c.deleted_at.is_(None))
            .limit(1)
        )
        if other and (name := self._connection.execute(clash).scalar_one_or_none()):
            raise _clash(name, other)


def _clash(name: str, family: ProxyFamily) -> InvalidEntry:
    why = "it is in one pool with {name!r}, pinned to {family}"
    return InvalidEntry(Sentence("family_of_pool", why, name=name, family=family), "family")


def _without_nulls(fields: Fields) -> Fields:
    """Region and notes may be null, as in OmniRoute: they are empty."""
    empty = {key: "" for key in ("region", "notes") if fields.get(key, "") is None}
    return {**fields, **empty} if empty else fields
