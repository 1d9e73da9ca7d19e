"""What the hub does by itself: jobs and when they run next, alarms and the mails that tell them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from gateway.hub.store.tables.base import RowId, metadata

# Something that runs by the clock. `times` are local times as `07:30`, `window` is a pair of them, `days` are weekdays
# from 0 for Monday. `next_ms` None: not by the clock. A run holds the lease; `lease_holder` names its process.
# `failure` is the word of the last failure, `settings` a hash of what a stopped job waits for.
job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("source", ForeignKey("source.id")),
    Column("kind", String(31), nullable=False),
    Column("times", JSON),
    Column("window", JSON),
    Column("every_minutes", Integer),
    Column("days", JSON),
    Column("enabled", Boolean, nullable=False),
    Column("settings", String(64), nullable=False),
    Column("next_ms", BigInteger),
    Column("lease_until_ms", BigInteger),
    Column("lease_holder", String(63)),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("last_ms", BigInteger),
    Column("last_result", String(15)),
    Column("failing_since_ms", BigInteger),
    Column("failure", String(31)),
    Column("last_error", Text),
    Column("stopped_why", Text),
    Column("asked_ms", BigInteger),
    Column("asked_by", Text),
    UniqueConstraint("site", "source", "kind"),
    Index(None, "next_ms"),
)

# A fault that lasts, or that was told less than a day ago; `over_ms` None: it lasts.
alarm = Table(
    "alarm",
    metadata,
    Column("key", Text, primary_key=True),
    Column("site", String(63), nullable=False),
    Column("template", String(31), nullable=False),
    Column("params", JSON, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("told_ms", BigInteger, nullable=False),
    Column("over_ms", BigInteger),
)

# The outbox. `state` is waiting, sent, refused (the address or the text) or given_up (tried for days).
mail = Table(
    "mail",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("template", String(31), nullable=False),
    Column("params", JSON, nullable=False),
    Column("address", Text, nullable=False),
    Column("dedupe_key", Text, nullable=False, unique=True),
    Column("state", String(15), nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("created_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),
    Column("error", Text),
    Index(None, "state", "next_ms"),
)
