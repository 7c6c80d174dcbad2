"""Who names an entry."""

from sqlalchemy import Connection, func, select

from ..errors import NotFound, Ref, Usage
from .schema import assignments, pool_members, pools, proxy_registry, rules

_NUMBERED = select(
    rules.c.id,
    rules.c.name,
    rules.c.proxy_id,
    rules.c.pool_id,
    func.row_number().over(order_by=(rules.c.position, rules.c.id)).label("number"),
).subquery()


def usage_of(connection: Connection, id_: str) -> Usage:
    """What names a proxy or a pool, whichever has the id. Raises ``NotFound``."""
    for table, find in ((proxy_registry, usage_of_proxy), (pools, usage_of_pool)):
        living = (table.c.id == id_) & table.c.deleted_at.is_(None)
        if connection.execute(select(table.c.id).where(living)).first():
            return find(connection, id_)
    raise NotFound("There is no such proxy or pool")


def usage_of_proxy(connection: Connection, id_: str) -> Usage:
    """The pools, rules and assignments that name a proxy."""
    members = (
        select(pools.c.id, pools.c.name)
        .join(pool_members, pool_members.c.pool_id == pools.c.id)
        .where(pool_members.c.proxy_id == id_)
        .order_by(pools.c.name)
    )
    assigned = (
        select(assignments.c.id, assignments.c.scope, assignments.c.scope_id)
        .where(assignments.c.proxy_id == id_)
        .order_by(assignments.c.scope, assignments.c.scope_id)
    )
    return Usage(
        pools=tuple(Ref(row.id, row.name) for row in connection.execute(members)),
        rules=_rules(connection, "proxy_id", id_),
        assignments=tuple(
            Ref(row.id, f"{row.scope}:{row.scope_id}") for row in connection.execute(assigned)
        ),
    )


def usage_of_pool(connection: Connection, id_: str) -> Usage:
    """The rules that name a pool."""
    return Usage(rules=_rules(connection, "pool_id", id_))


def _rules(connection: Connection, column: str, id_: str) -> tuple[Ref, ...]:
    naming = select(_NUMBERED).where(_NUMBERED.c[column] == id_).order_by(_NUMBERED.c.number)
    return tuple(Ref(row.id, row.name or f"#{row.number}") for row in connection.execute(naming))
