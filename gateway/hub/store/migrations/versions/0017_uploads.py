"""Reads that agents at schools send."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("source", sa.Integer(), sa.ForeignKey("source.id", name=op.f("fk_upload_source")), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("next_line", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
    )
    op.create_index(op.f("ix_upload_source_state"), "upload", ["source", "state"])
    key = sa.ForeignKey("upload.id", name=op.f("fk_upload_part_upload"))
    op.create_table(
        "upload_part",
        sa.Column("upload", _ROW_ID, key, autoincrement=False, nullable=False),
        sa.Column("first_line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("upload", "first_line", name=op.f("pk_upload_part")),
    )
