"""A registry under test, with one change per edit, and the statements that its database gets."""

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event

from egress_policy.registry.registry import Registry

KEY = b"k" * 32


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
