"""The true time of an event, apart from its clock's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("event", sa.Column("at_how", sa.String(length=8), nullable=False, server_default="set"))
    op.add_column("event", sa.Column("at_error_ms", sa.BigInteger(), nullable=True))
    unrepaired = sa.text("at_how IN ('unknown', 'bounded')")
    op.create_index(
        "ix_event_unrepaired",
        "event",
        ["gateway", "epoch", "seq"],
        sqlite_where=unrepaired,
        postgresql_where=unrepaired,
    )
    clock = sa.text("kind = 'clock'")
    op.create_index("ix_event_clock", "event", ["gateway", "epoch"], sqlite_where=clock, postgresql_where=clock)
