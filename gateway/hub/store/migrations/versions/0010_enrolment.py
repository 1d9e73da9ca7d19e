"""Gateways are enrolled, sources may be dropped from hub.toml, points have policies of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("source", sa.Column("removed_ms", sa.BigInteger()))
    op.add_column("site", sa.Column("trust_unenrolled", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("gateway", sa.Column("enrolled_ms", sa.BigInteger()))
    op.add_column("gateway", sa.Column("certificate_until_ms", sa.BigInteger()))
    op.create_table(
        "point_policy",
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_point_policy_site")), primary_key=True),
        sa.Column("point", sa.Text(), primary_key=True),
        sa.Column("unset_clock", sa.String(31), nullable=False),
        sa.Column("stale", sa.String(15), nullable=False),
        sa.Column("stale_after_hours", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("site", "point", name=op.f("pk_point_policy")),
    )
    # Whatever was heard before there was an enrolment had been let in by the broker.
    op.execute("UPDATE gateway SET enrolled_ms = COALESCE(seen_ms, 0)")
