"""How each site takes its register, what its office decided, and movements by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "register_settings",
        sa.Column(
            "site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_register_settings_site")), nullable=False
        ),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_register_settings")),
    )
    op.create_table(
        "attendance_mark",
        sa.Column(
            "site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_attendance_mark_site")), nullable=False
        ),
        sa.Column(
            "person", sa.String(18), sa.ForeignKey("person.ref", name=op.f("fk_attendance_mark_person")), nullable=False
        ),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("session", sa.String(7), nullable=False),
        sa.Column("code", sa.String(8)),
        sa.Column("minutes_late", sa.Integer()),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", "person", "day", "session", name=op.f("pk_attendance_mark")),
    )
    op.create_index(op.f("ix_movement_site_at_ms"), "movement", ["site", "at_ms"])
