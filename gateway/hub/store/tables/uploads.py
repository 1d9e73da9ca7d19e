"""Reads that agents at schools send, on their way and the newest whole one of each source."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from gateway.hub.store.tables.base import RowId, metadata

# `state` is open or whole; `next_line` is how many lines have arrived, `seen_ms` when the agent last said that its
# source still reads like this.
upload = Table(
    "upload",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("source", ForeignKey("source.id"), nullable=False),
    Column("state", String(15), nullable=False),
    Column("next_line", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(64)),
    Column("created_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Index(None, "source", "state"),
)

# The lines themselves, some at a time, as they arrived.
upload_part = Table(
    "upload_part",
    metadata,
    Column("upload", ForeignKey("upload.id"), primary_key=True, autoincrement=False),
    Column("first_line", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
