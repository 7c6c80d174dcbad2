"""The tags of proxies, and lists of proxies behind URLs."""

import sqlalchemy as sa
from alembic import op

revision = "0004_tags_and_subscriptions"
down_revision = "0003_health_and_exits"


def upgrade() -> None:
    for table in ("proxy_registry", "upstream_proxy_config"):
        op.add_column(table, sa.Column("tags", sa.Text, nullable=False, server_default="[]"))
    op.add_column("proxy_registry", sa.Column("subscription_id", sa.Text, nullable=True))
    op.create_index("ix_proxy_registry_subscription_id", "proxy_registry", ["subscription_id"])
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        *_texts("created_at", "updated_at", "name", "url", "via", "tags", "status"),
        sa.Column("every_hours", sa.Integer, nullable=False),
        sa.Column("type", sa.Text, nullable=True),
        sa.UniqueConstraint("name", name="uq_subscriptions_name"),
    )
    op.create_table(
        "subscription_fetches",
        sa.Column("subscription", sa.Text, primary_key=True),
        *_texts("at", "result"),
    )


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]
