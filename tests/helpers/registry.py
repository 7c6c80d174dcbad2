"""A registry under test, with one change per edit, and the statements that its database gets."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, Engine, event, inspect

from egress_policy.registry.registry import Registry

KEY = b"k" * 32
Upgrade = Callable[..., None]
_made: list[str] = []
"""The statements that make what the migrations leave in an empty SQLite database."""


class _Table:
    def __init__(self, registry: Registry, name: str) -> None:
        self._registry, self._name = registry, name

    def __getattr__(self, verb: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            with self._registry.edit() as edit:
                return getattr(getattr(edit, self._name), verb)(*args, **named)

        return call


class edits:  # noqa: N801 (reads as a verb)
    """``edits(registry).proxies.create(fields)`` is an edit with this single change."""

    def __init__(self, registry: Registry) -> None:
        self.proxies = _Table(registry, "proxies")
        self.pools = _Table(registry, "pools")
        self.rules = _Table(registry, "rules")
        self.assignments = _Table(registry, "assignments")
        self.subscriptions = _Table(registry, "subscriptions")
        self.settings = _Table(registry, "settings")


@contextlib.contextmanager
def statements() -> Iterator[list[str]]:
    """What databases are asked within the block; a statement for many rows is one."""
    made: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        made.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield made
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def made_once(migrate: Upgrade) -> Upgrade:
    """An `upgrade` that runs the migrations in the first empty SQLite database of this process,
    and repeats what they left there in the others. All other databases are migrated."""

    def upgrade(connection: Connection, target: str = "head") -> None:
        is_new = connection.dialect.name == "sqlite" and not inspect(connection).get_table_names()
        if not is_new or target != "head":
            migrate(connection, target)
        elif _made:
            for statement in _made:
                connection.exec_driver_sql(statement)
        else:
            migrate(connection)
            _made.extend(_dump(connection))

    return upgrade


def _dump(connection: Connection) -> list[str]:
    database = connection.connection.driver_connection
    assert isinstance(database, sqlite3.Connection)
    return [*database.iterdump()][1:-1]  # without BEGIN and COMMIT
