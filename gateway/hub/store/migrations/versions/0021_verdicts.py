"""What each gateway says of its own health."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("gateway", sa.Column("verdict", sa.String(7)))
    op.add_column("gateway", sa.Column("verdict_sentence", sa.Text()))
    op.add_column("gateway", sa.Column("verdict_remedy", sa.Text()))
    op.add_column("gateway", sa.Column("verdict_ms", sa.BigInteger()))
