"""The registry's tables to entries: one of them, or all of one moment."""

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, Text, bindparam, cast, func, select

from ..errors import NotFound
from .database import read_revision
from .entries import stored_assignment, stored_pool, stored_proxy, stored_rule
from .records import (
    RegistryState,
    Row,
    Stored,
    StoredAssignment,
    StoredPool,
    StoredProxy,
    StoredRule,
)
from .schema import (
    assignments,
    pool_members,
    pools,
    proxy_registry,
    rules,
    settings,
    upstream_proxy_config,
)
from .secrets import Cipher


class _Kind:
    """Entries of one kind: ``query`` gives their rows, ``heads`` their number and one text, in
    which each has a line of its id and revision."""

    def __init__(self, name: str, table: Table, query: Select[Any]) -> None:
        self.name, self.table, self.query = name, table, query
        head = table.c.id + " " + cast(table.c.revision, Text)
        listed = query.with_only_columns(head.label("head")).subquery()
        self.heads = select(func.count(), func.aggregate_strings(listed.c.head, "\n"))


Ids = Collection[str]
type _Make[E] = Callable[[Iterable[Row], Ids | None], list[E]]
"""Rows to entries. Given ids, the rows are only those that have them."""

_NAME: Final = attrgetter("name")
_FEW: Final = 500
"""How many entries are read by their ids, rather than with all the others."""

_PROXY_NAME: Final = (
    proxy_registry.c.name.label("proxy_name"),
    proxy_registry.c.deleted_at.label("proxy_deleted_at"),
)
_POOL_NAME: Final = (pools.c.name.label("pool_name"), pools.c.deleted_at.label("pool_deleted_at"))

_PROXY: Final = _Kind(
    "proxy", proxy_registry, select(proxy_registry).where(proxy_registry.c.deleted_at.is_(None))
)
_POOL: Final = _Kind("pool", pools, select(pools).where(pools.c.deleted_at.is_(None)))
_RULE: Final = _Kind(
    "rule",
    rules,
    select(rules, *_PROXY_NAME, *_POOL_NAME)
    .outerjoin(proxy_registry, proxy_registry.c.id == rules.c.proxy_id)
    .outerjoin(pools, pools.c.id == rules.c.pool_id)
    .order_by(rules.c.position, rules.c.id),
)
_ASSIGNMENT: Final = _Kind(
    "assignment",
    assignments,
    select(assignments, *_PROXY_NAME)
    .outerjoin(proxy_registry, proxy_registry.c.id == assignments.c.proxy_id)
    .order_by(assignments.c.created_at, assignments.c.id),
)
_MEMBERS: Final = (
    select(pool_members, *_PROXY_NAME)
    .outerjoin(proxy_registry, proxy_registry.c.id == pool_members.c.proxy_id)
    .order_by(pool_members.c.pool_id, pool_members.c.position)
)
_TAKEN: Final = (
    select(pools.c.name)
    .join(proxy_registry, proxy_registry.c.name == pools.c.name)
    .where(pools.c.deleted_at.is_(None), proxy_registry.c.deleted_at.is_(None))
)
"""Names that a pool and a proxy have: only an edit by hand gives one to both."""
_EARLIER: Final = (
    select(func.count()).select_from(rules).where(rules.c.position < bindparam("position"))
)


class Reader:
    """Reads with one key. Raises ``NotFound``."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def state(self, connection: Connection, since: RegistryState | None = None) -> RegistryState:
        """All that the transaction sees. What has the etag that it has in ``since`` is taken from
        there, neither read nor checked again."""
        revision = read_revision(connection)  # first: it says whether the tables are those it knows
        known = since or RegistryState(0, (), (), (), (), {})
        proxies = _entries(connection, _PROXY, known.proxies, _each(self._proxy))
        taken = frozenset(row["name"] for row in _rows(connection, _TAKEN))
        # Whether a pool has the name of a proxy is not in its etag.
        sound = [pool for pool in known.pools if not pool.problem and pool.name not in taken]
        make_pools = functools.partial(_pools, connection, taken)
        pools_ = _entries(connection, _POOL, sound, make_pools)
        make_rules = functools.partial(self._rules, connection)
        rules_ = _entries(connection, _RULE, known.rules, make_rules)
        make_assignments = _each(stored_assignment)
        assigned = _entries(connection, _ASSIGNMENT, known.assignments, make_assignments)
        return RegistryState(
            revision,
            tuple(sorted(proxies, key=_NAME)),
            tuple(sorted(pools_, key=_NAME)),
            tuple(
                rule if rule.number == number else rule.numbered(number)
                for number, rule in enumerate(rules_, 1)
            ),
            tuple(assigned),
            MappingProxyType(read_settings(connection)),
        )

    def proxy(self, connection: Connection, id_: str) -> StoredProxy:
        return self._proxy(_one(connection, _PROXY, id_))

    def pool(self, connection: Connection, id_: str) -> StoredPool:
        members = _members(connection, _MEMBERS.where(pool_members.c.pool_id == id_))
        return stored_pool(_one(connection, _POOL, id_), members[id_])

    def rule(self, connection: Connection, id_: str) -> StoredRule:
        row = self.rule_row(connection, id_)
        number = rule_number(connection, row["position"])
        return stored_rule(row, self.inline_proxy(connection, row), self._cipher, number)

    def rule_row(self, connection: Connection, id_: str) -> Row:
        """A rule and the names of what it uses, as it lies there."""
        return _one(connection, _RULE, id_)

    def inline_proxy(self, connection: Connection, rule: Row) -> Row:
        """The inline proxy of a rule, as it lies there; empty if there is none."""
        return _inline_proxies(connection, [rule["id"]]).get(rule["upstream_id"], {})

    def assignment(self, connection: Connection, id_: str) -> StoredAssignment:
        return stored_assignment(_one(connection, _ASSIGNMENT, id_))

    def _proxy(self, row: Row) -> StoredProxy:
        return stored_proxy(row, self._cipher)

    def _rules(
        self, connection: Connection, rows: Iterable[Row], only: Ids | None
    ) -> list[StoredRule]:
        """Numbered as if they were all there are."""
        inline = _inline_proxies(connection, only)
        return [
            stored_rule(row, inline.get(row["upstream_id"], {}), self._cipher, number)
            for number, row in enumerate(rows, 1)
        ]


def read_settings(connection: Connection) -> dict[str, str]:
    return {row.name: row.value for row in connection.execute(select(settings))}


def rule_number(connection: Connection, position: int) -> int:
    """The number, from 1, of the rule that has this position."""
    return int(connection.execute(_EARLIER, {"position": position}).scalar_one()) + 1


def _entries[E: Stored](
    connection: Connection, kind: _Kind, known: Iterable[E], make: _Make[E]
) -> list[E]:
    """All of a kind: those that are ``known``, and the others made of their rows."""
    by_head = {f"{entry.id} {entry.etag}": entry for entry in known}
    heads = _heads(connection, kind) if by_head else None
    stale = [head.rpartition(" ")[0] for head in heads or () if head not in by_head]
    if heads is None or len(stale) > _FEW:
        return make(_rows(connection, kind.query), None)
    if stale:
        made = make(_rows(connection, kind.query.where(kind.table.c.id.in_(stale))), stale)
        by_head.update({f"{entry.id} {entry.etag}": entry for entry in made})
    try:
        return [by_head[head] for head in heads]
    except KeyError:  # the database writes a revision, edited by hand, in another way
        return make(_rows(connection, kind.query), None)


def _heads(connection: Connection, kind: _Kind) -> list[str] | None:
    """Ids and etags in order, ``None`` if an id, edited by hand, leaves them in doubt.

    The database makes one text of them, which leaves little to do for each: a change of one entry
    asks for the heads of all.
    """
    count, text = connection.execute(kind.heads).one()
    heads = text.split("\n") if text else []
    return heads if len(heads) == count else None


def _each[E](make: Callable[[Row], E]) -> _Make[E]:
    return lambda rows, _: [make(row) for row in rows]


def _inline_proxies(connection: Connection, only: Ids | None) -> dict[str, Row]:
    """The inline proxies, or only those of some rules, by their own ids."""
    query = select(upstream_proxy_config)
    if only is not None:
        used = select(rules.c.upstream_id).where(rules.c.id.in_(only))
        query = query.where(upstream_proxy_config.c.id.in_(used))
    return {row["id"]: row for row in _rows(connection, query)}


def _pools(
    connection: Connection, taken: Collection[str], rows: Iterable[Row], only: Ids | None
) -> list[StoredPool]:
    query = _MEMBERS if only is None else _MEMBERS.where(pool_members.c.pool_id.in_(only))
    members = _members(connection, query)
    return [stored_pool(row, members.get(row["id"], ()), taken) for row in rows]


def _rows(connection: Connection, query: Select[Any]) -> Iterable[Row]:
    keys, rows = _fetch(connection, query)
    return (dict(zip(keys, row, strict=True)) for row in rows)


def _fetch(connection: Connection, query: Select[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of the columns and the rows, as the driver has them: there may be many."""
    result = connection.execute(query)
    cursor: Any = result.cursor
    keys, rows = list(result.keys()), cursor.fetchall()
    result.close()
    return keys, rows


def _members(connection: Connection, query: Select[Any]) -> defaultdict[str, list[Row]]:
    members: defaultdict[str, list[Row]] = defaultdict(list)
    for row in _rows(connection, query):
        members[row["pool_id"]].append(row)
    return members


def _one(connection: Connection, kind: _Kind, id_: str) -> Row:
    for row in _rows(connection, kind.query.where(kind.table.c.id == id_)):
        return row
    raise NotFound(f"There is no such {kind.name}")
