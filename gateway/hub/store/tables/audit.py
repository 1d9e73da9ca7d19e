"""The audit log."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, String, Table, Text

from gateway.hub.store.tables.base import RowId, metadata

# Who changed what; only ever appended.
audit = Table(
    "audit",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("site", String(63), nullable=False),
    Column("operation", String(31), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("run", ForeignKey("sync_run.id")),
    Index(None, "subject"),
)
