"""Sources, their runs, what the guard held back, and what only a person can resolve."""

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

from gateway.hub.store.tables.base import metadata, where

# `edited` rows no longer follow hub.toml. `removed_ms` says since when hub.toml does not name the source any more: it
# is not read, and its people stay until somebody retires them. `agreed_ms` is when somebody first let its people in:
# until then a read is only shown. `shape` is where the last good read found each field (mis.base.Shape).
source = Table(
    "source",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("kind", String(31), nullable=False),
    Column("options", JSON, nullable=False),
    Column("edited", Boolean, nullable=False, default=False),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("agreed_ms", BigInteger),
    Column("shape", JSON),
    Column("removed_ms", BigInteger),
    UniqueConstraint("site", "name"),
)

# The position from which the next read of a list continues: the newest checkpoint whose changes are all applied.
source_cursor = Table(
    "source_cursor",
    metadata,
    Column("source", ForeignKey("source.id"), primary_key=True),
    Column("list", String(31), primary_key=True),
    Column("state", Text, nullable=False),
    Column("run", Integer, nullable=False),
)

# One try to reconcile a source. `result` is running, done, held, incomplete or failed; `report` holds the counts and
# unreadable rows. `step`, `done` and `total` tell how far a run under way has come.
sync_run = Table(
    "sync_run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", ForeignKey("source.id"), nullable=False),
    Column("trigger", String(15), nullable=False, server_default="schedule"),
    Column("actor", Text),
    Column("started_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("result", String(15), nullable=False),
    Column("step", String(15)),
    Column("done", Integer),
    Column("total", Integer),
    Column("plan", String(64)),
    Column("error", Text),
    Column("report", JSON),
    Index(None, "source", "started_ms"),
)

# One operation that the guard held back, named by its hash: the same change has the same one in every run. `state` is
# held, approved, refused, applied or gone (no longer wanted). An approval is for one operation, once, for a day.
hold_op = Table(
    "hold_op",
    metadata,
    Column("source", ForeignKey("source.id"), primary_key=True),
    Column("op_hash", String(32), primary_key=True),
    Column("kind", String(15), nullable=False),
    Column("operation", JSON, nullable=False),
    Column("what", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("state", String(15), nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("run", Integer, nullable=False),
    Column("by", Text),
    Column("decided_ms", BigInteger),
    Index("ix_hold_op_open", "source", **where("state IN ('held', 'approved', 'refused')")),
)

# What only a person can resolve; nothing of it is applied. `state` is open, solved (by `solution`) or gone. `about` is
# the digest of what the source said: a solution is for that and nothing else.
conflict = Table(
    "conflict",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", ForeignKey("source.id"), nullable=False),
    Column("kind", String(31), nullable=False),
    Column("entity", String(31), nullable=False),
    Column("person_key", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("person", ForeignKey("person.ref")),
    Column("summary", Text, nullable=False),
    Column("about", String(32), nullable=False),
    Column("state", String(15), nullable=False),
    Column("solution", String(31)),
    Column("by", Text),
    Column("solved_ms", BigInteger),
    Column("first_run", Integer, nullable=False),
    Column("last_run", Integer, nullable=False),
    Index("uq_conflict_open", "source", "kind", "entity", "person_key", unique=True, **where("state = 'open'")),
    Index(None, "source", "state"),
)
