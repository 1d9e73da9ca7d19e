"""Sources that hub.toml no longer names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("source", sa.Column("removed_ms", sa.BigInteger()))
