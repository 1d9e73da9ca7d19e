"""The times of a site's registers, and quickly found events whose time is not sure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("site", sa.Column("register_times", sa.JSON(), nullable=False, server_default="[]"))
    unsure = sa.text("at_how <> 'set'")
    op.create_index("ix_event_unsure", "event", ["at_ms"], sqlite_where=unsure, postgresql_where=unsure)
