"""A site has a revision of its own, and a roster says which one it was made of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "site_change",
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_site_change_site")), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("whole_n", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_site_change")),
    )
    site = sa.ForeignKey("site.id", name=op.f("fk_site_change_card_site"))
    op.create_table(
        "site_change_card",
        sa.Column("site", sa.String(63), site, nullable=False),
        sa.Column("n", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("site", "n", "key", name=op.f("pk_site_change_card")),
    )
    op.add_column("roster_generation", sa.Column("revision", sa.BigInteger()))
    op.add_column("roster_generation", sa.Column("made_with", sa.String(32)))
