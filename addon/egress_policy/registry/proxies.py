"""Writes to the proxies of the registry."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import delete, insert, select, update

from ..errors import InUse, InvalidEntry, NotFound
from ..model.family import ProxyFamily
from ..model.proxy import Proxy
from .change import Change
from .entries import HOP_FIELDS, common, listed, password_owner, read_hop
from .records import Row, StoredProxy
from .schema import pool_members, proxy_registry
from .usage import usage_of_proxy
from .validation import require_id, require_match, validate

_TABLE: Final = "proxy_registry"
_INSERT: Final = insert(proxy_registry)


class ProxyTable:
    """Raises ``InvalidEntry`` for fields that are wrong, ``NotFound`` for an unknown id and
    ``Conflict`` if ``if_match`` is not the etag."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def create(self, fields: Mapping[str, object] | Proxy, id_: str = "") -> StoredProxy:
        """``fields`` are those of ``Proxy``; what is left out has its default."""
        proxy = fields if isinstance(fields, Proxy) else validate(Proxy, _without_nulls(fields))
        self._change.require_free_name(proxy.name)
        row = {**self._change.birth(id_), **hop_columns(proxy), "deleted_at": None}
        if id_ and self._find(id_):
            raise InvalidEntry("this id is used already", "id")
        password = proxy.password.get_secret_value()
        row["password"] = self._change.cipher.seal(password, password_owner(_TABLE, row["id"]))
        self._change.connection.execute(_INSERT, [row])
        return StoredProxy(**common(row), **listed(row), problem="", proxy=proxy)

    def update(
        self, id_: str, changes: Mapping[str, object], if_match: str | None = None
    ) -> StoredProxy:
        """Only the fields that ``changes`` has are changed; an empty password removes it."""
        row = self._require(id_, if_match)
        change, owner = self._change, password_owner(_TABLE, id_)
        stated = _without_nulls(changes)
        proxy = validate(Proxy, {**_replaceable(row, stated, change, owner), **stated})
        if proxy.name != row["name"]:
            change.require_free_name(proxy.name)
        if proxy.family != row["family"]:
            self._require_family_of_pools(id_, proxy.family)
        columns = {**hop_columns(proxy), **change.stamp}
        if "password" in stated:
            columns["password"] = change.cipher.seal(proxy.password.get_secret_value(), owner)
        this = proxy_registry.c.id == id_
        change.connection.execute(update(proxy_registry).where(this).values(columns))
        if proxy.name != row["name"]:
            change.touch_users("proxy", id_)
        return change.reader.proxy(change.connection, id_)

    def delete(self, id_: str, *, force: bool = False, if_match: str | None = None) -> None:
        """Raises ``InUse`` if something names it. With ``force`` that refuses from then on: the
        row stays, marked and without credentials."""
        row = self._require(id_, if_match)
        usage = usage_of_proxy(self._change.connection, id_)
        this = proxy_registry.c.id == id_
        if not usage.count:
            self._change.connection.execute(delete(proxy_registry).where(this))
            return
        if not force:
            raise InUse(f"Proxy {row['name']} is in use by {usage.count}", usage)
        grave = {"deleted_at": self._change.now, "username": "", "password": ""}
        self._change.connection.execute(
            update(proxy_registry).where(this).values(**grave, **self._change.stamp)
        )
        self._change.touch_users("proxy", id_)

    def _require_family_of_pools(self, id_: str, family: ProxyFamily) -> None:
        """Raises ``InvalidEntry`` if a pool has this proxy and one of the other family."""
        other = {"ipv4": "ipv6", "ipv6": "ipv4"}.get(family)
        beside = pool_members.alias()
        clash = (
            select(proxy_registry.c.name)
            .join(beside, beside.c.proxy_id == proxy_registry.c.id)
            .join(pool_members, pool_members.c.pool_id == beside.c.pool_id)
            .where(pool_members.c.proxy_id == id_, proxy_registry.c.id != id_)
            .where(proxy_registry.c.family == other, proxy_registry.c.deleted_at.is_(None))
            .limit(1)
        )
        if other and (name := self._change.connection.execute(clash).scalar_one_or_none()):
            raise InvalidEntry(f"it is in one pool with {name!r}, pinned to {other}", "family")

    def _require(self, id_: str, if_match: str | None) -> Row:
        row = self._find(require_id(id_))
        if row is None or row["deleted_at"] is not None:
            raise NotFound("There is no such proxy")
        require_match(row["revision"], if_match)
        return row

    def _find(self, id_: str) -> dict[str, Any] | None:
        query = select(proxy_registry).where(proxy_registry.c.id == id_)
        row = self._change.connection.execute(query).one_or_none()
        return row._asdict() if row else None


def hop_columns(proxy: Proxy) -> dict[str, Any]:
    """The columns of a proxy, except for its password."""
    return {field: getattr(proxy, field) for field in HOP_FIELDS}


def _replaceable(
    row: Row, stated: Mapping[str, object], change: Change, owner: str
) -> dict[str, Any]:
    """The stored fields, of which those that are stated anew may be unusable."""
    usable = {**row, **{field: None for field in ("family", "password") if field in stated}}
    return read_hop(usable, change.cipher, owner)


def _without_nulls(fields: Mapping[str, object]) -> dict[str, object]:
    """Region and notes may be null, as in OmniRoute, which is empty."""
    return {
        key: "" if value is None and key in ("region", "notes") else value
        for key, value in fields.items()
    }
