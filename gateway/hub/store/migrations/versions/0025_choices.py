"""Movements that replace the one of the tap before them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("movement", sa.Column("ref", sa.String(31)))
    op.add_column("movement", sa.Column("replaces", sa.String(31)))
    op.add_column("movement", sa.Column("is_replaced", sa.Boolean(), nullable=False, server_default=sa.false()))
