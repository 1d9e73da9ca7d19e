"""What a point does with cards that look like copies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("point_policy", sa.Column("copies", sa.String(7), nullable=False, server_default="log"))
