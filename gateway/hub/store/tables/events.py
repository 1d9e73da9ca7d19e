"""Events as they came from gateways, the watermarks, and what could not be used."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    false,
)

from gateway.hub.store.tables.base import RowId, metadata, where

# The law of the hub: one row for (gateway, epoch, seq), whatever is sent again. `raw` is the event as it was journaled
# and sent; the other columns are read from it. `person` is from the gateway or, with `matched_ms`, from us. `at_ms` is
# when it happened as far as is known: `at_how` is `set`, `repaired`, `bounded` or `unknown` (see access.timeline), and
# `at_error_ms` its bound, None where the clock was right or nothing bounds it. A `reader` event with a `reason` is a
# card that looks like a copy: `reason` is the sign, `tail` the card's (see access.suspicion).
event = Table(
    "event",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("site", String(63), nullable=False),
    Column("kind", String(15), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("committed_ms", BigInteger, nullable=False),
    Column("historical", Boolean, nullable=False),
    Column("point", Text),
    Column("reader", Text),
    Column("card_key", String(32)),
    Column("tail", String(4)),
    Column("person", String(18)),
    Column("matched_ms", BigInteger),
    Column("decision", String(7)),
    Column("reason", String(31)),
    Column("raw", LargeBinary, nullable=False),
    Column("at_how", String(8), nullable=False, server_default="set"),
    Column("at_error_ms", BigInteger),
    Index("ix_event_unrepaired", "gateway", "epoch", "seq", **where("at_how IN ('unknown', 'bounded')")),
    Index("ix_event_clock", "gateway", "epoch", **where("kind = 'clock'")),
    Index("ix_event_sign", "at_ms", **where("kind = 'reader' AND reason IS NOT NULL")),
    Index("ix_event_site_at", "site", "at_ms"),
    Index("ix_event_unsure", "at_ms", **where("at_how <> 'set'")),
    Index("ix_event_person_at", "person", "at_ms", **where("person IS NOT NULL")),
    Index("ix_event_unmatched", "site", "card_key", **where("person IS NULL AND card_key IS NOT NULL")),
    # A unique key must hold the partition key; by gateway, a re-sent event always meets its first copy.
    postgresql_partition_by="HASH (gateway)",
)

# The watermark: every seq up to `upto` is an event or quarantined; `have` holds the closed ranges above it (JSON),
# `rejected` the newest quarantined ones (JSON), both as link.messages.Watermark sends them. The hash chain was followed
# up to `verified`; an epoch after a gateway's first waits for somebody to accept it. `link` is what the event after
# `upto` must carry as `prev`, empty where unknown. A `strict` epoch is that of a gateway that waits for the hub's
# welcome: an event that does not follow from the one before is not taken, and `forked` holds the number at which such a
# one came, until the gateway was answered.
mark = Table(
    "mark",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("upto", BigInteger, nullable=False),
    Column("have", Text, nullable=False),
    Column("rejected", Text, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False, server_default="0"),
    Column("verified", BigInteger, nullable=False, server_default="0"),
    Column("accepted_ms", BigInteger),
    Column("accepted_by", Text),
    Column("link", String(32), nullable=False, server_default=""),
    Column("strict", Boolean, nullable=False, server_default=false()),
    Column("forked", BigInteger),
)

# Events that came in another epoch than their first, by what they were (`epoch`, `seq`, `digest` of what they say): the
# same one from two copies of a card is counted once. `at_epoch` and `at_seq` are where it is held.
moved_event = Table(
    "moved_event",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), primary_key=True),
    Column("at_epoch", String(63), nullable=False),
    Column("at_seq", BigInteger, nullable=False),
)

# An event that is held under another number already: its bytes under this one, for the chain.
event_copy = Table(
    "event_copy",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("raw", LargeBinary, nullable=False),
)

# What the quarantine holds of each gateway (`scope` SITE/GATEWAY, empty for topics of none), and how many came after
# its quota was used up.
quarantine_use = Table(
    "quarantine_use",
    metadata,
    Column("scope", String(127), primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
)

# Bytes that are not an event, once each (`digest`), with how often they came.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("epoch", String(63)),
    Column("seq", BigInteger),
    Column("payload", LargeBinary, nullable=False),
    Column("why", Text, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("count", Integer, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
)
