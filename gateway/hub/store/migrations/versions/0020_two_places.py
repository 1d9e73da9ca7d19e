"""Cards that were used at two points within a moment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "two_places",
        sa.Column(
            "gateway",
            sa.Integer(),
            sa.ForeignKey("gateway.id", name=op.f("fk_two_places_gateway")),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("epoch", sa.String(63), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("other_gateway", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("other_epoch", sa.String(63), nullable=False),
        sa.Column("other_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_two_places_site")), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("point", sa.Text(), nullable=False),
        sa.Column("other_point", sa.Text(), nullable=False),
        sa.Column("tail", sa.String(4)),
        sa.PrimaryKeyConstraint(
            "gateway",
            "epoch",
            "seq",
            "other_gateway",
            "other_epoch",
            "other_seq",
            name=op.f("pk_two_places"),
        ),
    )
    op.create_index(
        op.f("ix_two_places_other_gateway_other_epoch_other_seq"),
        "two_places",
        ["other_gateway", "other_epoch", "other_seq"],
    )
    op.create_index(op.f("ix_two_places_at_ms"), "two_places", ["at_ms"])
