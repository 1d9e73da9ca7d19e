"""The tables of the first release; on PostgreSQL the events lie in partitions by gateway."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

EVENT_PARTITIONS = 16


def upgrade() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("epoch", sa.String(length=63), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("digest", name=op.f("uq_quarantine_digest")),
    )
    op.create_table(
        "site",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("key_file", sa.Text(), nullable=False),
        sa.Column("edited", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site")),
    )
    op.create_table(
        "access_rule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("point", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("windows", sa.JSON(), nullable=False),
        sa.Column("on_holidays", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_access_rule_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_rule")),
        sa.UniqueConstraint("site", "point", "place", name=op.f("uq_access_rule_site_point_place")),
    )
    op.create_table(
        "gateway",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=15), nullable=False),
        sa.Column("state_ms", sa.BigInteger(), nullable=True),
        sa.Column("boot", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.String(length=63), nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.Column("acked", sa.BigInteger(), nullable=False),
        sa.Column("software", sa.Text(), nullable=False),
        sa.Column("roster", sa.BigInteger(), nullable=True),
        sa.Column("seen_ms", sa.BigInteger(), nullable=True),
        sa.Column("live_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_gateway_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway")),
        sa.UniqueConstraint("site", "name", name=op.f("uq_gateway_site_name")),
    )
    op.create_table(
        "holiday",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_holiday_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holiday")),
    )
    op.create_table(
        "roster_generation",
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("cards", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("file", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_roster_generation_site")),
        sa.PrimaryKeyConstraint("site", "version", name=op.f("pk_roster_generation")),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=31), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("edited", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_source_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("site", "name", name=op.f("uq_source_site_name")),
    )
    op.create_table(
        "event",
        sa.Column("gateway", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.String(length=63), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=15), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("committed_ms", sa.BigInteger(), nullable=False),
        sa.Column("historical", sa.Boolean(), nullable=False),
        sa.Column("point", sa.Text(), nullable=True),
        sa.Column("reader", sa.Text(), nullable=True),
        sa.Column("card_key", sa.String(length=32), nullable=True),
        sa.Column("tail", sa.String(length=4), nullable=True),
        sa.Column("person", sa.String(length=18), nullable=True),
        sa.Column("matched_ms", sa.BigInteger(), nullable=True),
        sa.Column("decision", sa.String(length=7), nullable=True),
        sa.Column("reason", sa.String(length=31), nullable=True),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateway.id"], name=op.f("fk_event_gateway")),
        sa.PrimaryKeyConstraint("gateway", "epoch", "seq", name=op.f("pk_event")),
        postgresql_partition_by="HASH (gateway)",
    )
    if op.get_bind().dialect.name == "postgresql":
        for number in range(EVENT_PARTITIONS):
            bounds = f"WITH (MODULUS {EVENT_PARTITIONS}, REMAINDER {number})"
            op.execute(f"CREATE TABLE event_{number} PARTITION OF event FOR VALUES {bounds}")
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(
            "ix_event_person_at",
            ["person", "at_ms"],
            unique=False,
            sqlite_where=sa.text("person IS NOT NULL"),
            postgresql_where=sa.text("person IS NOT NULL"),
        )
        batch_op.create_index("ix_event_site_at", ["site", "at_ms"], unique=False)
        batch_op.create_index(
            "ix_event_unmatched",
            ["site", "card_key"],
            unique=False,
            sqlite_where=sa.text("person IS NULL AND card_key IS NOT NULL"),
            postgresql_where=sa.text("person IS NULL AND card_key IS NOT NULL"),
        )

    op.create_table(
        "hold",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("diff", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=15), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_hold_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hold")),
        sa.UniqueConstraint("source", "plan", name=op.f("uq_hold_source_plan")),
    )
    op.create_table(
        "mark",
        sa.Column("gateway", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.String(length=63), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("have", sa.Text(), nullable=False),
        sa.Column("rejected", sa.Text(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["gateway"], ["gateway.id"], name=op.f("fk_mark_gateway")),
        sa.PrimaryKeyConstraint("gateway", "epoch", name=op.f("pk_mark")),
    )
    op.create_table(
        "person",
        sa.Column("ref", sa.String(length=18), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("source", sa.Integer(), nullable=True),
        sa.Column("person_key", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=31), nullable=False),
        sa.Column("given_name", sa.Text(), nullable=False),
        sa.Column("family_name", sa.Text(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("left_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_person_site")),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_person_source")),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_person")),
    )
    with op.batch_alter_table("person", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_person_site_family_name"), ["site", "family_name"], unique=False)
        batch_op.create_index(batch_op.f("ix_person_source"), ["source"], unique=False)

    op.create_table(
        "sync_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.String(length=15), nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_sync_run_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_run")),
    )
    with op.batch_alter_table("sync_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sync_run_source_started_ms"), ["source", "started_ms"], unique=False)

    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("operation", sa.String(length=31), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["sync_run.id"], name=op.f("fk_audit_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_subject"), ["subject"], unique=False)

    op.create_table(
        "card",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("tail", sa.String(length=4), nullable=False),
        sa.Column("projection", sa.String(length=31), nullable=False),
        sa.Column("person", sa.String(length=18), nullable=True),
        sa.Column("state", sa.String(length=15), nullable=False),
        sa.Column("state_by", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["person.ref"], name=op.f("fk_card_person")),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_card_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card")),
        sa.UniqueConstraint("site", "key", name=op.f("uq_card_site_key")),
    )
    with op.batch_alter_table("card", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_card_person"), ["person"], unique=False)

    op.create_table(
        "identity",
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("namespace", sa.String(length=31), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("person", sa.String(length=18), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("retired_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["person.ref"], name=op.f("fk_identity_person")),
        sa.ForeignKeyConstraint(["source"], ["source.id"], name=op.f("fk_identity_source")),
        sa.PrimaryKeyConstraint("source", "namespace", "value", name=op.f("pk_identity")),
    )
    with op.batch_alter_table("identity", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_identity_person"), ["person"], unique=False)

    op.create_table(
        "holding",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("card", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=18), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=True),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["card"], ["card.id"], name=op.f("fk_holding_card")),
        sa.ForeignKeyConstraint(["person"], ["person.ref"], name=op.f("fk_holding_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holding")),
    )
    with op.batch_alter_table("holding", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_holding_card"), ["card"], unique=False)
