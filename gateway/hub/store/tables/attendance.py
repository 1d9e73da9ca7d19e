"""The register: how a site takes it, and what its office decided."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Date, ForeignKey, Integer, String, Table, Text

from gateway.hub.store.tables.base import metadata

# `settings` is a site's config.RegisterSettings as JSON, as hub.toml had it when the hub last followed it.
register_settings = Table(
    "register_settings",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("settings", JSON, nullable=False),
)

# What somebody of the office decided about one mark, over what the movements say; `code` None: no mark.
attendance_mark = Table(
    "attendance_mark",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("person", ForeignKey("person.ref"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("session", String(7), primary_key=True),
    Column("code", String(8)),
    Column("minutes_late", Integer),
    Column("comment", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
