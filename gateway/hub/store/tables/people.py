"""People, the ids by which sources know them, and their cards."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from gateway.hub.store.tables.base import RowId, metadata

# `source` is None for people entered by hand; `person_key` is the MIS id as people know it, kept to the letter.
person = Table(
    "person",
    metadata,
    Column("ref", String(18), primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("source", ForeignKey("source.id")),
    Column("person_key", Text, nullable=False),
    Column("role", String(31), nullable=False),
    Column("given_name", Text, nullable=False),
    Column("family_name", Text, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("valid_from", Date),
    Column("valid_until", Date),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("left_ms", BigInteger),
    Index(None, "site", "family_name"),
    Index(None, "source"),
)

# Every id a source ever used. A row is never deleted: a retired id is the tombstone that refuses its second use.
identity = Table(
    "identity",
    metadata,
    Column("source", ForeignKey("source.id"), primary_key=True),
    Column("namespace", String(31), primary_key=True),
    Column("value", Text, primary_key=True),
    Column("person", ForeignKey("person.ref"), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("retired_ms", BigInteger),
    Index(None, "person"),
)

# `origin` and `state_by` say who linked the card and who set its state: `source:ID` or `person:NAME`; a state that a
# person set is not undone by a sync.
card = Table(
    "card",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("key", String(32), nullable=False),
    Column("tail", String(4), nullable=False),
    Column("projection", String(31), nullable=False),
    Column("person", ForeignKey("person.ref")),
    Column("state", String(15), nullable=False),
    Column("state_by", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("valid_from", Date),
    Column("valid_until", Date),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    UniqueConstraint("site", "key"),
    Index(None, "person"),
)

# Who held a card when; `since_ms` None: from the beginning, so that taps from before the MIS knew the card count too.
holding = Table(
    "holding",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("card", ForeignKey("card.id"), nullable=False),
    Column("person", ForeignKey("person.ref"), nullable=False),
    Column("since_ms", BigInteger),
    Column("until_ms", BigInteger),
    Index(None, "card"),
)
