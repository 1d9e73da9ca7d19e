"""Jobs, alarms and an outbox of mails."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_job_site")), nullable=False),
        sa.Column("source", sa.Integer(), sa.ForeignKey("source.id", name=op.f("fk_job_source"))),
        sa.Column("kind", sa.String(31), nullable=False),
        sa.Column("times", sa.JSON()),
        sa.Column("window", sa.JSON()),
        sa.Column("every_minutes", sa.Integer()),
        sa.Column("days", sa.JSON()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("settings", sa.String(64), nullable=False),
        sa.Column("next_ms", sa.BigInteger()),
        sa.Column("lease_until_ms", sa.BigInteger()),
        sa.Column("lease_holder", sa.String(63)),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_ms", sa.BigInteger()),
        sa.Column("last_result", sa.String(15)),
        sa.Column("failing_since_ms", sa.BigInteger()),
        sa.Column("failure", sa.String(31)),
        sa.Column("last_error", sa.Text()),
        sa.Column("stopped_why", sa.Text()),
        sa.Column("asked_ms", sa.BigInteger()),
        sa.Column("asked_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("site", "source", "kind", name=op.f("uq_job_site_source_kind")),
    )
    op.create_index(op.f("ix_job_next_ms"), "job", ["next_ms"])
    op.create_table(
        "alarm",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("template", sa.String(31), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("told_ms", sa.BigInteger(), nullable=False),
        sa.Column("over_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_alarm")),
    )
    op.create_table(
        "mail",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("template", sa.String(31), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_mail_dedupe_key")),
    )
    op.create_index(op.f("ix_mail_state_next_ms"), "mail", ["state", "next_ms"])
