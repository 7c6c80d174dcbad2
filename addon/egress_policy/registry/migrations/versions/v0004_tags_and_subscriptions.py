"""The tags of proxies."""

import sqlalchemy as sa
from alembic import op

revision = "0004_tags_and_subscriptions"
down_revision = "0003_health_and_exits"


def upgrade() -> None:
    for table in ("proxy_registry", "upstream_proxy_config"):
        op.add_column(table, sa.Column("tags", sa.Text, nullable=False, server_default="[]"))
