"""The assignments of the registry: which proxy a scope leaves by."""

from typing import Final, override

from sqlalchemy import delete, insert, select, update

from ..errors import InvalidEntry, NotFound
from ..model.rule import REFUSE, Rule
from ..sentence import Sentence
from .named import reference, referred_columns
from .reading import Reader, stored_fields
from .records import Row, StoredAssignment
from .schema import assignments, proxy_registry
from .scopes import GLOBAL_ID, scope_condition
from .validation import require_id, require_match, require_text, validate

_LONGEST_GROUP: Final = 120


class AssignmentTable(Reader[StoredAssignment]):
    """Each scope has one proxy. A scope is ``global``, a ``host`` pattern, a ``client`` network, a
    ``user`` of ``proxyauth`` or a ``filter`` expression."""

    noun, plural, table = "assignment", "assignments", assignments
    query = (
        select(assignments, *referred_columns("proxy"))
        .outerjoin(proxy_registry, proxy_registry.c.id == assignments.c.proxy_id)
        .order_by(assignments.c.created_at, assignments.c.id)
    )

    def put(
        self,
        scope: str,
        scope_id: str | None,
        proxy_id: str | None,
        if_match: str | None = None,
        group: str | None = None,
    ) -> StoredAssignment | None:
        """Give a scope another proxy; ``None`` clears it.

        ``scope_id`` is stored in its canonical form; the global scope needs none. ``group`` is
        another group, empty for none; with ``None`` the scope stays in its group. Raises
        ``InvalidEntry`` for an invalid scope, ``NotFound`` for an unknown proxy, and ``Conflict``
        if ``if_match`` is not the etag of the assignment.
        """
        scope_id = self._canonical(scope, scope_id or (GLOBAL_ID if scope == "global" else ""))
        same = (assignments.c.scope == scope) & (assignments.c.scope_id == scope_id)
        old = self._connection.execute(select(assignments).where(same)).one_or_none()
        require_match(old.revision if old else 0, if_match)
        if proxy_id is None:
            self._connection.execute(delete(assignments).where(same))
            return None
        columns = {"proxy_id": self._living(proxy_id), **self._transaction.stamp}
        if group is not None:
            columns["group"] = require_text(group, "group", _LONGEST_GROUP) if group else ""
        if old:
            self._connection.execute(update(assignments).where(same).values(columns))
            return self.one(old.id)
        row = {**self._transaction.birth(), **columns, "scope": scope, "scope_id": scope_id}
        self._connection.execute(insert(assignments), [row])
        return self.one(row["id"])

    @override
    def _in_order(self, entries: list[StoredAssignment]) -> list[StoredAssignment]:
        return entries

    @override
    def _stored(self, row: Row) -> StoredAssignment:
        scope, scope_id, problem = str(row["scope"]), str(row["scope_id"]), ""
        rule = Rule(use=REFUSE)
        try:
            condition = scope_condition(scope, scope_id)
            rule = validate(Rule, {**condition, "use": REFUSE})
            rule = validate(Rule, {**condition, "use": reference(row, "proxy")})
        except InvalidEntry as error:
            problem = error.text
        return StoredAssignment(
            **stored_fields(row),
            problem=problem,
            scope=scope,
            scope_id=scope_id,
            proxy_id=str(row["proxy_id"]),
            rule=rule.model_copy(update={"name": f"{scope}:{scope_id}"}),
            group=str(row["group"]),
        )

    def _canonical(self, scope: str, scope_id: str) -> str:
        try:
            condition = scope_condition(scope, require_text(scope_id, "scopeId"))
            rule = validate(Rule, {**condition, "use": REFUSE})
            if scope == "filter":
                self._transaction.require_filter(scope_id)
        except InvalidEntry as error:
            field = "scope" if error.field == "scope" else "scopeId"
            raise InvalidEntry(error.text, field) from error
        return str(next(iter((*rule.hosts, *rule.clients)), scope_id))

    def _living(self, proxy_id: str) -> str:
        this, deleted = proxy_registry.c.id == require_id(proxy_id), proxy_registry.c.deleted_at
        query = select(proxy_registry.c.id).where(this, deleted.is_(None))
        if found := self._connection.execute(query).scalar_one_or_none():
            return str(found)
        raise NotFound(Sentence("no_such_proxy", "There is no such proxy"))
