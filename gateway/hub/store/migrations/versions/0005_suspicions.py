"""Cards that look like copies, found without reading every event."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    signs = sa.text("kind = 'reader' AND reason IS NOT NULL")
    op.create_index("ix_event_sign", "event", ["at_ms"], sqlite_where=signs, postgresql_where=signs)
