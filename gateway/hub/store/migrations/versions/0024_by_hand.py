"""Movements made by hand or by the end of a day; presence may rest on one of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "hand_movement",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_hand_movement_site")), nullable=False),
        sa.Column("person", sa.String(18), nullable=False),
        sa.Column("direction", sa.String(3), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("withdrawn_ms", sa.BigInteger()),
        sa.Column("withdrawn_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hand_movement")),
    )
    op.create_index(op.f("ix_hand_movement_site_person_at_ms"), "hand_movement", ["site", "person", "at_ms"])
    op.create_index(op.f("ix_hand_movement_site_at_ms"), "hand_movement", ["site", "at_ms"])
    with op.batch_alter_table("presence") as presence:
        presence.alter_column("gateway", existing_type=sa.Integer(), nullable=True)
