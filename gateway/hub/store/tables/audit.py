"""The audit log."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, String, Table, Text

from gateway.hub.store.tables.base import RowId, metadata, where

# Who changed what; only ever appended. Each site has a chain of its own, and so have the changes that concern none
# (`site` empty): `number` counts its lines from 1, `hash` covers the line and the hash of the one before.
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
    Column("reason", Text),
    Column("number", BigInteger, nullable=False, server_default="0"),
    Column("hash", String(64), nullable=False, server_default=""),
    Index(None, "subject", "at_ms"),
    Index("uq_audit_site_number", "site", "number", unique=True),
    Index("ix_audit_run", "run", **where("run IS NOT NULL")),
)

# The newest line of each chain, so that a cut tail is noticed.
audit_head = Table(
    "audit_head",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
