"""What machines write into the registry: events, observed exits, tests of proxies.

It is no part of the policy: nothing here counts a revision, so no node reads its policy again. Rows
are plain mappings with the columns of their tables, apart from ``id``. Each call is one
transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, insert, select
from sqlalchemy.dialects import sqlite

from .database import Database, require_newest
from .schema import events, exit_observations, proxy_tests, subscription_fetches

EVENTS: Final = 10_000
"""Events that are kept."""
OBSERVATIONS: Final = 32
"""Observations that are kept of a proxy and family."""
_BLOCK: Final = 500

Rows = Sequence[Mapping[str, Any]]

_OLDEST_EVENT: Final = (
    select(events.c.id).order_by(events.c.id.desc()).offset(EVENTS - 1).limit(1).scalar_subquery()
)


class Journal:
    """Synchronous: call it from a thread. Lists are in the order in which rows were added.

    Raises ``RegistryUnavailable`` while the database cannot be used; then nothing was added.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_events(self, rows: Rows) -> None:
        """``at`` (ISO 8601), ``kind``, ``proxy``, ``pool``, ``about`` (a text, or JSON)."""
        if not rows:
            return
        with self._database.write() as connection:
            require_newest(connection)
            connection.execute(insert(events), list(rows))
            connection.execute(delete(events).where(events.c.id < _OLDEST_EVENT))

    def events(self, limit: int = EVENTS) -> list[dict[str, Any]]:
        """The last events, at most ``limit``."""
        with self._database.read() as connection:
            require_newest(connection)
            query = _columns(events).order_by(events.c.id.desc()).limit(limit)
            return _mappings(connection, query)[::-1]

    def add_observations(self, rows: Rows) -> None:
        """``proxy``, ``fingerprint``, ``family``, ``address``, ``at`` (ISO 8601), ``source``."""
        if not rows:
            return
        with self._database.write() as connection:
            require_newest(connection)
            connection.execute(insert(exit_observations), list(rows))
            proxies = sorted({row["proxy"] for row in rows})
            for start in range(0, len(proxies), _BLOCK):
                _keep_newest(connection, proxies[start : start + _BLOCK])

    def observations(self) -> list[dict[str, Any]]:
        with self._database.read() as connection:
            require_newest(connection)
            query = _columns(exit_observations).order_by(exit_observations.c.id)
            return _mappings(connection, query)

    def put_tests(self, rows: Rows) -> None:
        """``proxy``, ``fingerprint``, ``at`` (ISO 8601), ``result`` (JSON): each takes the place
        of what the proxy had."""
        self._put(proxy_tests, rows)

    def tests(self) -> list[dict[str, Any]]:
        """One row for each proxy that was tested."""
        with self._database.read() as connection:
            require_newest(connection)
            return _mappings(connection, _columns(proxy_tests).order_by(proxy_tests.c.proxy))

    def put_fetches(self, rows: Rows) -> None:
        """``subscription`` (its id), ``at`` (ISO 8601), ``result`` (JSON): each takes the place of
        the last fetch of the subscription."""
        self._put(subscription_fetches, rows)

    def fetches(self) -> list[dict[str, Any]]:
        """One row for each subscription that was fetched."""
        with self._database.read() as connection:
            require_newest(connection)
            by_id = subscription_fetches.c.subscription
            return _mappings(connection, _columns(subscription_fetches).order_by(by_id))

    def _put(self, table: Table, rows: Rows) -> None:
        """Rows that take the place of those with the same key."""
        [key] = (column.name for column in table.primary_key)
        last = {row[key]: row for row in rows}
        if not last:
            return
        statement = self._insert(table)
        others = {one.name: statement.excluded[one.name] for one in table.c if one.name != key}
        upsert = statement.on_conflict_do_update(index_elements=[key], set_=others)
        with self._database.write() as connection:
            require_newest(connection)
            # In order: two nodes that write the same keys never wait for each other in a circle.
            connection.execute(upsert, [last[one] for one in sorted(last)])

    def _insert(self, table: Table) -> Any:
        """An ``INSERT`` that may have ``ON CONFLICT``: each dialect has its own class."""
        if not self._database.is_postgres:
            return sqlite.insert(table)
        # Only here: it takes 2 MB, and where it is needed make_engine has loaded it already.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)


def forget(connection: Connection, *proxies: str) -> None:
    """Remove what was observed of proxies that are gone, or have other names now. Events stay."""
    for table in (exit_observations, proxy_tests):
        connection.execute(delete(table).where(table.c.proxy.in_(proxies)))


def _keep_newest(connection: Connection, proxies: Sequence[str]) -> None:
    seen = exit_observations.c
    newer = func.row_number().over(partition_by=(seen.proxy, seen.family), order_by=seen.id.desc())
    ranked = select(seen.id, newer.label("rank")).where(seen.proxy.in_(proxies)).subquery()
    old = select(ranked.c.id).where(ranked.c.rank > OBSERVATIONS)
    connection.execute(delete(exit_observations).where(seen.id.in_(old)))


def _columns(table: Table) -> Any:
    return select(*(column for column in table.c if column.name != "id"))


def _mappings(connection: Connection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]
