"""The proxies of the registry."""

from collections.abc import Mapping
from typing import Any, Final, override

from sqlalchemy import Select, select

from ..errors import InvalidEntry
from ..model.family import ProxyFamily
from ..model.proxy import Proxy
from ..sentence import Sentence
from .hop import hop_columns, read_hop
from .journal import forget
from .named import NamedTable
from .records import Row, StoredProxy
from .schema import assignments, pool_members, proxy_registry
from .table import Fields

OTHER_FAMILY: Final[Mapping[ProxyFamily, ProxyFamily]] = {"ipv4": "ipv6", "ipv6": "ipv4"}


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
        if id_ and self._is_used(id_):
            raise InvalidEntry(Sentence("id_used", "this id is used already"), "id")
        proxy = fields if isinstance(fields, Proxy) else self._validate(_without_nulls(fields))
        row = self._add(proxy, {}, id_, subscription_id=subscription or None)
        return self._record(row, proxy)

    def _is_used(self, id_: str) -> bool:
        this = select(1).where(self.table.c.id == id_)
        return self._connection.execute(this).first() is not None

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
        other = OTHER_FAMILY.get(family)
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
            raise family_clash(name, other)


def family_clash(name: str, family: ProxyFamily) -> InvalidEntry:
    why = "it is in one pool with {name!r}, pinned to {family}"
    return InvalidEntry(Sentence("family_of_pool", why, name=name, family=family), "family")


def _without_nulls(fields: Fields) -> Fields:
    """Region and notes may be null, as in OmniRoute: they are empty."""
    empty = {key: "" for key in ("region", "notes") if fields.get(key, "") is None}
    return {**fields, **empty} if empty else fields
