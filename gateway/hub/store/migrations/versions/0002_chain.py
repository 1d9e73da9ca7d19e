"""How far the hash chain was followed, where it does not hold, and who accepted a new journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("mark") as mark:
        mark.add_column(sa.Column("first_ms", sa.BigInteger(), nullable=False, server_default="0"))
        mark.add_column(sa.Column("verified", sa.BigInteger(), nullable=False, server_default="0"))
        mark.add_column(sa.Column("accepted_ms", sa.BigInteger(), nullable=True))
        mark.add_column(sa.Column("accepted_by", sa.Text(), nullable=True))
    op.create_table(
        "chain_fault",
        sa.Column("gateway", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.String(length=63), nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.String(length=15), nullable=False),
        sa.Column("found_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateway.id"], name=op.f("fk_chain_fault_gateway")),
        sa.PrimaryKeyConstraint("gateway", "epoch", "first", name=op.f("pk_chain_fault")),
    )
    # Journals that were in use before this version are taken as they are.
    op.execute("UPDATE mark SET first_ms = changed_ms, accepted_ms = changed_ms, accepted_by = 'hub'")
