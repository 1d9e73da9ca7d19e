"""The types of people that each site speaks of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.create_table(
        "user_type",
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_user_type_site")), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(31), nullable=False),
        sa.Column("years", sa.JSON(), nullable=False),
        sa.Column("departments", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("site", "place", name=op.f("pk_user_type")),
    )
