"""The family directive of every proxy (OmniRoute's 099_proxy_family.sql, with a CHECK)."""

from alembic import op

revision = "0002_proxy_family"
down_revision = "0001_registry"


def upgrade() -> None:
    for table in ("proxy_registry", "upstream_proxy_config"):
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN family TEXT NOT NULL DEFAULT 'auto' "
            f"CONSTRAINT ck_{table}_family CHECK (family IN ('auto', 'ipv4', 'ipv6'))"
        )
