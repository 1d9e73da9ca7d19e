"""Movements and presence, made from the events by projectors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _to(table: str, column: str, target: str) -> sa.ForeignKey:
    return sa.ForeignKey(target, name=op.f(f"fk_{table}_{column}"))


def upgrade() -> None:
    op.create_table(
        "projection",
        sa.Column("name", sa.String(31), nullable=False),
        sa.Column(
            "gateway", sa.Integer(), _to("projection", "gateway", "gateway.id"), autoincrement=False, nullable=False
        ),
        sa.Column("epoch", sa.String(63), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "gateway", "epoch", name=op.f("pk_projection")),
    )
    op.create_table(
        "event_revision",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("gateway", sa.Integer(), _to("event_revision", "gateway", "gateway.id"), nullable=False),
        sa.Column("epoch", sa.String(63), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_revision")),
    )
    op.create_table(
        "movement",
        sa.Column(
            "gateway", sa.Integer(), _to("movement", "gateway", "gateway.id"), autoincrement=False, nullable=False
        ),
        sa.Column("epoch", sa.String(63), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("site", sa.String(63), _to("movement", "site", "site.id"), nullable=False),
        sa.Column("person", sa.String(18), nullable=False),
        sa.Column("kind", sa.String(7), nullable=False),
        sa.Column("direction", sa.String(3), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("at_how", sa.String(8), nullable=False),
        sa.Column("at_error_ms", sa.BigInteger()),
        sa.Column("point", sa.Text()),
        sa.Column("action", sa.String(63)),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "epoch", "seq", name=op.f("pk_movement")),
    )
    op.create_index(op.f("ix_movement_site_person_at_ms"), "movement", ["site", "person", "at_ms"])
    op.create_table(
        "presence",
        sa.Column("site", sa.String(63), _to("presence", "site", "site.id"), nullable=False),
        sa.Column("person", sa.String(18), nullable=False),
        sa.Column("state", sa.String(3), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("at_how", sa.String(8), nullable=False),
        sa.Column("point", sa.Text()),
        sa.Column("gateway", sa.Integer(), _to("presence", "gateway", "gateway.id"), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("site", "person", name=op.f("pk_presence")),
    )
    op.create_index(op.f("ix_presence_site_state"), "presence", ["site", "state"])
