"""Forked journals, gateways with one id, two hubs on one broker, and how much the quarantine may hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for name, kind in (
        ("witness", sa.String(64)),
        ("twin_ms", sa.BigInteger()),
        ("challenge", sa.String(64)),
        ("alarm", sa.Text()),
        ("alarm_ms", sa.BigInteger()),
    ):
        op.add_column("gateway", sa.Column(name, kind, nullable=True))
    op.add_column("mark", sa.Column("link", sa.String(32), nullable=False, server_default=""))
    op.add_column("mark", sa.Column("strict", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("mark", sa.Column("forked", sa.BigInteger(), nullable=True))
    op.create_table(
        "witness",
        sa.Column("gateway", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("witness", sa.String(64), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("boot", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.String(63), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateway.id"], name=op.f("fk_witness_gateway")),
        sa.PrimaryKeyConstraint("gateway", "witness", name=op.f("pk_witness")),
    )
    op.create_table(
        "moved_event",
        sa.Column("gateway", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.String(63), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at_epoch", sa.String(63), nullable=False),
        sa.Column("at_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateway.id"], name=op.f("fk_moved_event_gateway")),
        sa.PrimaryKeyConstraint("gateway", "epoch", "seq", "digest", name=op.f("pk_moved_event")),
    )
    op.create_table(
        "event_copy",
        sa.Column("gateway", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.String(63), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateway.id"], name=op.f("fk_event_copy_gateway")),
        sa.PrimaryKeyConstraint("gateway", "epoch", "seq", name=op.f("pk_event_copy")),
    )
    op.create_table(
        "hub_claim",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("instance", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(64), nullable=False, server_default=""),
        sa.Column("fenced", sa.Text(), nullable=True),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("alarm", sa.Text(), nullable=True),
        sa.Column("alarm_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_claim")),
    )
    op.create_table(
        "quarantine_use",
        sa.Column("scope", sa.String(127), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_quarantine_use")),
    )
