"""Weights, fail-over, checks, limits and expected exits; and tables for what machines observe."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003_health_and_exits"
down_revision = "0002_proxy_family"


def upgrade() -> None:
    for table in ("proxy_registry", "upstream_proxy_config"):
        op.add_column(table, _filled("health", sa.Text, "watch"))
        op.add_column(table, _filled("max_connections", sa.Integer, "0"))
        op.add_column(table, sa.Column("exit_family", sa.Text, nullable=True))
        op.add_column(table, _filled("exit_in", sa.Text, "[]"))
        op.add_column(table, _filled("exit_enforce", sa.Boolean, sa.false()))
    op.add_column("pools", _filled("failover", sa.Integer, "1"))
    op.add_column("pools", sa.Column("seed", sa.BigInteger, nullable=True))
    op.add_column("pools", sa.Column("checks", sa.Text, nullable=True))
    op.add_column("pool_members", _filled("weight", sa.Integer, "1"))
    op.add_column("assignments", _filled("group", sa.Text, ""))
    op.execute("UPDATE pools SET sticky_by = 'user' WHERE sticky_by = 'account'")
    op.create_table("events", _number(), *_texts("at", "kind", "proxy", "pool", "about"))
    op.create_table(
        "exit_observations",
        _number(),
        *_texts("proxy", "fingerprint", "family", "address", "at", "source"),
    )
    op.create_index("ix_exit_observations_proxy", "exit_observations", ["proxy", "family"])
    op.create_table(
        "proxy_tests",
        sa.Column("proxy", sa.Text, primary_key=True),
        *_texts("fingerprint", "at", "result"),
    )


def _filled(name: str, type_: Any, default: Any) -> sa.Column[Any]:
    """A column that has a value in the rows that are there."""
    return sa.Column(name, type_, nullable=False, server_default=default)


def _number() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]
