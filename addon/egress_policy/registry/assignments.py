"""Writes to the assignments of the registry: which proxy a scope leaves by."""

from typing import Any

from sqlalchemy import delete, insert, select, update

from ..errors import InvalidEntry, NotFound
from ..model.rule import REFUSE, Rule
from .change import Change
from .records import StoredAssignment
from .schema import assignments, proxy_registry
from .scopes import GLOBAL_ID, scope_condition
from .validation import require_id, require_match, require_text, validate


class AssignmentTable:
    """One proxy a scope: ``global``, or a ``host`` pattern, ``client`` network, ``user`` of
    ``proxyauth`` or ``filter`` expression."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def put(
        self, scope: str, scope_id: str | None, proxy_id: str | None, if_match: str | None = None
    ) -> StoredAssignment | None:
        """Assign a scope to a proxy, in the place of what it had; ``None`` clears it.

        ``scope_id`` is stored in its canonical form; the global scope needs none.
        Raises ``InvalidEntry`` for a scope that cannot be, ``NotFound`` for an unknown proxy,
        ``Conflict`` if ``if_match`` is not the etag of the assignment there is.
        """
        scope_id = self._canonical(scope, scope_id or (GLOBAL_ID if scope == "global" else ""))
        connection, stamp = self._change.connection, self._change.stamp
        same = (assignments.c.scope == scope) & (assignments.c.scope_id == scope_id)
        old = connection.execute(select(assignments).where(same)).one_or_none()
        require_match(old.revision if old else 0, if_match)
        if proxy_id is None:
            connection.execute(delete(assignments).where(same))
            return None
        columns = {"proxy_id": self._living(proxy_id), **stamp}
        if old:
            connection.execute(update(assignments).where(same).values(columns))
            return self._change.reader.assignment(connection, old.id)
        row = {**self._change.birth(), **columns, "scope": scope, "scope_id": scope_id}
        connection.execute(insert(assignments), [row])
        return self._change.reader.assignment(connection, row["id"])

    def _canonical(self, scope: str, scope_id: str) -> str:
        try:
            condition = scope_condition(scope, require_text(scope_id, "scopeId"))
            rule = validate(Rule, {**condition, "use": REFUSE})
            if scope == "filter":
                self._change.require_filter(scope_id)
        except InvalidEntry as error:
            field = "scope" if error.field == "scope" else "scopeId"
            raise InvalidEntry(str(error), field) from error
        stated: tuple[Any, ...] = (*rule.hosts, *rule.clients)
        return str(stated[0]) if stated else scope_id

    def _living(self, proxy_id: str) -> str:
        living = (proxy_registry.c.id == require_id(proxy_id)) & proxy_registry.c.deleted_at.is_(
            None
        )
        query = select(proxy_registry.c.id).where(living)
        if found := self._change.connection.execute(query).scalar_one_or_none():
            return str(found)
        raise NotFound("There is no such proxy")
