"""The registry as it began, before proxies had a family."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001_registry"
down_revision = None


def upgrade() -> None:
    counter = op.create_table(
        "revision",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("key_check", sa.Text, nullable=False),
        sa.CheckConstraint("id = 1", name="ck_revision_id"),
    )
    op.bulk_insert(counter, [{"id": 1, "value": 0, "key_check": ""}])
    op.create_table(
        "proxy_registry", *_entry(), *_hop(), sa.Column("deleted_at", sa.Text, nullable=True)
    )
    op.create_table("upstream_proxy_config", _id(), *_hop())
    op.create_table(
        "pools",
        *_entry(),
        *_texts("name", "strategy", "sticky_by"),
        sa.Column("sticky_minutes", sa.Integer, nullable=False),
        sa.Column("deleted_at", sa.Text, nullable=True),
    )
    for table in ("proxy_registry", "pools"):
        _create_name_index(table)
    op.create_table(
        "pool_members",
        sa.Column(
            "pool_id", sa.Text, sa.ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("proxy_id", sa.Text, sa.ForeignKey("proxy_registry.id"), nullable=True),
        *_texts("name"),
    )
    op.create_table(
        "rules",
        *_entry(),
        sa.Column("position", sa.BigInteger, nullable=False),
        *_texts("name", "filter"),
        *_texts("hosts", "clients", "ports", "use", "family", "target_family", nullable=True),
        sa.Column("proxy_id", sa.Text, sa.ForeignKey("proxy_registry.id"), nullable=True),
        sa.Column("pool_id", sa.Text, sa.ForeignKey("pools.id"), nullable=True),
        sa.Column(
            "upstream_id",
            sa.Text,
            sa.ForeignKey("upstream_proxy_config.id"),
            unique=True,
            nullable=True,
        ),
    )
    op.create_table(
        "assignments",
        *_entry(),
        *_texts("scope", "scope_id"),
        sa.Column("proxy_id", sa.Text, sa.ForeignKey("proxy_registry.id"), nullable=False),
        sa.CheckConstraint(
            "scope IN ('global', 'host', 'client', 'user', 'filter')", name="ck_assignments_scope"
        ),
        sa.UniqueConstraint("scope", "scope_id", name="uq_assignments_scope"),
    )
    for table, column in (
        ("pool_members", "proxy_id"),
        ("rules", "proxy_id"),
        ("rules", "pool_id"),
        ("rules", "position"),
        ("assignments", "proxy_id"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column])
    op.create_table("settings", sa.Column("name", sa.Text, primary_key=True), *_texts("value"))


def _id() -> sa.Column[Any]:
    return sa.Column("id", sa.Text, primary_key=True)


def _texts(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text, nullable=nullable) for name in names]


def _entry() -> list[sa.Column[Any]]:
    return [
        _id(),
        sa.Column("revision", sa.BigInteger, nullable=False),
        *_texts("created_at", "updated_at"),
    ]


def _hop() -> list[sa.Column[Any]]:
    return [
        *_texts("name", "type", "host", "username", "password", "plain_http"),
        *_texts("region", "notes", "status"),
        sa.Column("port", sa.Integer, nullable=False),
        *_texts("target_family", nullable=True),
    ]


def _create_name_index(table: str) -> None:
    living = sa.text("deleted_at IS NULL")
    op.create_index(
        f"uq_{table}_name",
        table,
        ["name"],
        unique=True,
        sqlite_where=living,
        postgresql_where=living,
    )
