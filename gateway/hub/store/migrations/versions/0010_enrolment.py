"""Gateways are enrolled, sources may be dropped from hub.toml."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("source", sa.Column("removed_ms", sa.BigInteger()))
    op.add_column("site", sa.Column("trust_unenrolled", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("gateway", sa.Column("enrolled_ms", sa.BigInteger()))
    op.add_column("gateway", sa.Column("certificate_until_ms", sa.BigInteger()))
    # Whatever was heard before there was an enrolment had been let in by the broker.
    op.execute("UPDATE gateway SET enrolled_ms = COALESCE(seen_ms, 0)")
