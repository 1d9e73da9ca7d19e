"""Sources, their runs, and what the guard held back."""

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

from gateway.hub.store.tables.base import metadata

# `state` is the connector's own checkpoint; `edited` rows no longer follow hub.toml. `removed_ms` says since when
# hub.toml does not name the source any more: it is not read, and its people stay until somebody retires them.
source = Table(
    "source",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("kind", String(31), nullable=False),
    Column("options", JSON, nullable=False),
    Column("edited", Boolean, nullable=False, default=False),
    Column("state", Text),
    Column("removed_ms", BigInteger),
    UniqueConstraint("site", "name"),
)

# One try to reconcile a source. `result` is running, done, held, incomplete or failed; `report` holds the counts,
# conflicts and unreadable rows.
sync_run = Table(
    "sync_run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", ForeignKey("source.id"), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("result", String(15), nullable=False),
    Column("plan", String(64)),
    Column("error", Text),
    Column("report", JSON),
    Index(None, "source", "started_ms"),
)

# What the guard held back, named by the hash of its plan; an approval is for one plan, once, for a day.
hold = Table(
    "hold",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", ForeignKey("source.id"), nullable=False),
    Column("plan", String(64), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("diff", JSON, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("closed_ms", BigInteger),
    Column("outcome", String(15)),
    Column("approved_by", Text),
    Column("approved_ms", BigInteger),
    UniqueConstraint("source", "plan"),
)
