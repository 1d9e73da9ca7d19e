"""Sites: schools, their rules and holidays."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from gateway.hub.store.tables.base import metadata

# `register_times` are local times as `09:20`, in order: what is not sure to be before or after one is flagged.
site = Table(
    "site",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("name", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("key_file", Text, nullable=False),
    Column("edited", Boolean, nullable=False, default=False),
    Column("register_times", JSON, nullable=False, server_default="[]"),
    Column("trust_unenrolled", Boolean, nullable=False, server_default=false()),
)

# How often what a roster or a sync depends on has changed (see directory.revision); `whole_n` is the last change that
# did not name its cards, site_change_card has those of the others until a roster holds them.
site_change = Table(
    "site_change",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("whole_n", BigInteger, nullable=False, server_default="0"),
)

site_change_card = Table(
    "site_change_card",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(32), primary_key=True),
)

# Who may pass where: `groups` empty means everybody, `windows` empty means always (see access.schedule.parse_window).
access_rule = Table(
    "access_rule",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("point", Text, nullable=False),
    Column("place", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("windows", JSON, nullable=False),
    Column("on_holidays", Boolean, nullable=False),
    UniqueConstraint("site", "point", "place"),
)

# What a point does without a clock or a fresh roster, and with a card that looks copied (see access.people); `point`
# may be `*` for every point.
point_policy = Table(
    "point_policy",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("point", Text, primary_key=True),
    Column("unset_clock", String(31), nullable=False),
    Column("stale", String(15), nullable=False),
    Column("stale_after_hours", Integer, nullable=False),
    Column("copies", String(7), nullable=False, server_default="log"),
)

holiday = Table(
    "holiday",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
)
