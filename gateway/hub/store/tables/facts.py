"""What events mean: made by projectors from the events, and made again from them at any time."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, false

from gateway.hub.store.tables.base import RowId, metadata

# How far a projector has followed each journal; every event up to `upto` is in its tables.
projection = Table(
    "projection",
    metadata,
    Column("name", String(31), primary_key=True),
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("upto", BigInteger, nullable=False),
)

# Events whose time or person was corrected after they came; projectors take them again, then the row goes.
event_revision = Table(
    "event_revision",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("gateway", ForeignKey("gateway.id"), nullable=False),
    Column("epoch", String(63), nullable=False),
    Column("seq", BigInteger, nullable=False),
)

# Who came, left or was somewhere. `kind` sign changes presence, check does not; `at_how` and `at_error_ms` as in
# `event`. `action` names what was chosen, None where the tap alone was the movement. A choice `replaces` the movement
# of the tap before it, which has that `ref` at the same gateway, and has its time.
movement = Table(
    "movement",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("person", String(18), nullable=False),
    Column("kind", String(7), nullable=False),
    Column("direction", String(3), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("at_how", String(8), nullable=False),
    Column("at_error_ms", BigInteger),
    Column("point", Text),
    Column("action", String(63)),
    Column("automatic", Boolean, nullable=False),
    Column("ref", String(31)),
    Column("replaces", String(31)),
    Column("is_replaced", Boolean, nullable=False, server_default=false()),
    Index(None, "site", "person", "at_ms"),
    Index(None, "site", "at_ms"),
)

# A movement that no gateway recorded: entered by somebody of the office, or by the end of the day (`automatic`).
hand_movement = Table(
    "hand_movement",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("person", String(18), nullable=False),
    Column("direction", String(3), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("automatic", Boolean, nullable=False),
    Column("by", Text, nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("withdrawn_ms", BigInteger),
    Column("withdrawn_by", Text),
    Index(None, "site", "person", "at_ms"),
    Index(None, "site", "at_ms"),
)

# The newest sign movement of each person: whether they are in, since when, and where they were last seen; without a
# gateway where it was made by hand.
presence = Table(
    "presence",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("person", String(18), primary_key=True),
    Column("state", String(3), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("at_how", String(8), nullable=False),
    Column("point", Text),
    Column("gateway", ForeignKey("gateway.id")),
    Column("automatic", Boolean, nullable=False),
    Index(None, "site", "state"),
)

# A card that was granted at two points within a moment; the first key is the later of the two events.
two_places = Table(
    "two_places",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("other_gateway", Integer, primary_key=True, autoincrement=False),
    Column("other_epoch", String(63), primary_key=True),
    Column("other_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("point", Text, nullable=False),
    Column("other_point", Text, nullable=False),
    Column("tail", String(4)),
    Index(None, "other_gateway", "other_epoch", "other_seq"),
    Index(None, "at_ms"),
)
