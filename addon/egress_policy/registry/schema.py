"""The tables as the newest migration leaves them. A test holds both equal."""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

VERSIONS: Final = (
    "0001_registry",
    "0002_proxy_family",
    "0003_health_and_exits",
    "0004_tags_and_subscriptions",
)
"""The migrations, so that a registry which is up to date is opened without Alembic."""
HEAD: Final = VERSIONS[-1]

metadata = MetaData()


def _entry(*columns: Column[Any]) -> tuple[Column[Any], ...]:
    """``revision`` is that of the registry when the entry changed last: its etag."""
    return (
        Column("id", Text, primary_key=True),
        *columns,
        Column("revision", BigInteger, nullable=False),
        Column("created_at", Text, nullable=False),
        Column("updated_at", Text, nullable=False),
    )


def _hop(table: str) -> tuple[Column[Any] | CheckConstraint, ...]:
    return (
        Column("name", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("host", Text, nullable=False),
        Column("port", Integer, nullable=False),
        Column("username", Text, nullable=False),
        Column("password", Text, nullable=False),
        Column("target_family", Text),
        Column("plain_http", Text, nullable=False),
        Column("region", Text, nullable=False),
        Column("notes", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("family", Text, nullable=False, server_default="auto"),
        Column("health", Text, nullable=False, server_default="watch"),
        Column("max_connections", Integer, nullable=False, server_default="0"),
        Column("exit_family", Text),
        Column("exit_in", Text, nullable=False, server_default="[]"),  # a JSON list
        Column("exit_enforce", Boolean, nullable=False, server_default=false()),
        Column("tags", Text, nullable=False, server_default="[]"),  # a JSON list
        CheckConstraint("family IN ('auto', 'ipv4', 'ipv6')", name=f"ck_{table}_family"),
    )


def _number() -> Column[Any]:
    """Counts the rows of a table in the order in which they came."""
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _living_name(table: str) -> Index:
    # On PostgreSQL the migration gives the index the same condition. Naming it here as well would
    # load SQLAlchemy's part for PostgreSQL at every start.
    living = text("deleted_at IS NULL")
    return Index(f"uq_{table}_name", "name", unique=True, sqlite_where=living)


revision = Table(
    "revision",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="ck_revision_id"), primary_key=True),
    Column("value", BigInteger, nullable=False),
    Column("key_check", Text, nullable=False),
)

proxy_registry = Table(
    "proxy_registry",
    metadata,
    *_entry(
        Column("deleted_at", Text),
        # Which subscription brought it, NULL for none. It may have been deleted since.
        Column("subscription_id", Text, index=True),
    ),
    *_hop("proxy_registry"),
    _living_name("proxy_registry"),
)

upstream_proxy_config = Table(
    "upstream_proxy_config",
    metadata,
    Column("id", Text, primary_key=True),
    *_hop("upstream_proxy_config"),
)

pools = Table(
    "pools",
    metadata,
    *_entry(
        Column("name", Text, nullable=False),
        Column("strategy", Text, nullable=False),
        Column("sticky_by", Text, nullable=False),
        Column("sticky_minutes", Integer, nullable=False),
        Column("failover", Integer, nullable=False, server_default="1"),
        Column("seed", BigInteger),
        Column("checks", Text),  # a JSON object, NULL for no checks
        Column("deleted_at", Text),
    ),
    _living_name("pools"),
)

pool_members = Table(
    "pool_members",
    metadata,
    Column("pool_id", Text, ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("proxy_id", Text, ForeignKey("proxy_registry.id"), index=True),
    Column("name", Text, nullable=False),  # of a proxy in the policy file
    Column("weight", Integer, nullable=False, server_default="1"),
)

rules = Table(
    "rules",
    metadata,
    *_entry(
        Column("position", BigInteger, nullable=False),
        Column("name", Text, nullable=False),
        Column("hosts", Text),  # this and the next two: a JSON list, NULL for no condition
        Column("clients", Text),
        Column("ports", Text),
        Column("filter", Text, nullable=False),
        # One of the next four says what the rule uses; "use" is direct, refuse or a name of the
        # policy file.
        Column("use", Text),
        Column("proxy_id", Text, ForeignKey("proxy_registry.id"), index=True),
        Column("pool_id", Text, ForeignKey("pools.id"), index=True),
        Column("upstream_id", Text, ForeignKey("upstream_proxy_config.id"), unique=True),
        Column("family", Text),
        Column("target_family", Text),
    ),
    Index("ix_rules_position", "position"),
)

assignments = Table(
    "assignments",
    metadata,
    *_entry(
        Column("scope", Text, nullable=False),
        Column("scope_id", Text, nullable=False),
        Column("proxy_id", Text, ForeignKey("proxy_registry.id"), nullable=False, index=True),
        Column("group", Text, nullable=False, server_default=""),
    ),
    CheckConstraint(
        "scope IN ('global', 'host', 'client', 'user', 'filter')", name="ck_assignments_scope"
    ),
    UniqueConstraint("scope", "scope_id", name="uq_assignments_scope"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    *_entry(
        Column("name", Text, nullable=False),
        Column("url", Text, nullable=False),  # encrypted
        Column("via", Text, nullable=False),
        Column("every_hours", Integer, nullable=False),
        Column("type", Text),
        Column("tags", Text, nullable=False),  # a JSON list
        Column("status", Text, nullable=False),
    ),
    UniqueConstraint("name", name="uq_subscriptions_name"),
)

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# What machines write. It is no part of the policy, so the revision does not count it.

events = Table(
    "events",
    metadata,
    _number(),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("proxy", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("about", Text, nullable=False),
)

exit_observations = Table(
    "exit_observations",
    metadata,
    _number(),
    Column("proxy", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("source", Text, nullable=False),
    Index("ix_exit_observations_proxy", "proxy", "family"),
)

proxy_tests = Table(
    "proxy_tests",
    metadata,
    Column("proxy", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("result", Text, nullable=False),  # a JSON object
)

subscription_fetches = Table(
    "subscription_fetches",
    metadata,
    Column("subscription", Text, primary_key=True),  # its id
    Column("at", Text, nullable=False),
    Column("result", Text, nullable=False),  # a JSON object
)
