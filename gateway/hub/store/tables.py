"""The tables of the hub; a change here needs a migration of its own (tests compare the two).

Times are whole milliseconds since 1970 in UTC (`*_ms`), the same number in SQLite and PostgreSQL. Card numbers do not
exist here, only card keys (32 hex digits) and the tail that people may see.

Over 400 lines because Alembic compares one metadata, and one page shows which tables refer to which.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows itself only for a key that is exactly INTEGER.
_RowId = BigInteger().with_variant(Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    """Make an index partial, on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


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
    Column("id", _RowId, primary_key=True),
    Column("card", ForeignKey("card.id"), nullable=False),
    Column("person", ForeignKey("person.ref"), nullable=False),
    Column("since_ms", BigInteger),
    Column("until_ms", BigInteger),
    Index(None, "card"),
)

# `live_ms` is the newest live event's time; what comes as backlog never touches it. `acked` and `head` are the
# gateway's own words from its birth. Only with `enrolled_ms` is anything of it taken in, unless its site trusts
# whatever the broker lets in (`site.trust_unenrolled`).
gateway = Table(
    "gateway",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(15), nullable=False, default="unheard"),
    Column("state_ms", BigInteger),
    Column("boot", BigInteger, nullable=False, default=0),
    Column("epoch", String(63), nullable=False, default=""),
    Column("head", BigInteger, nullable=False, default=0),
    Column("acked", BigInteger, nullable=False, default=0),
    Column("software", Text, nullable=False, default=""),
    Column("roster", BigInteger),
    Column("seen_ms", BigInteger),
    Column("live_ms", BigInteger),
    Column("enrolled_ms", BigInteger),
    Column("certificate_until_ms", BigInteger),
    Column("witness", String(64)),
    Column("twin_ms", BigInteger),
    Column("challenge", String(64)),
    Column("alarm", Text),
    Column("alarm_ms", BigInteger),
    UniqueConstraint("site", "name"),
)

# The boots of each gateway that were heard last, each by its witness. `witness` in `gateway` is the one of the last
# birth, `twin_ms` when an earlier one last came back after it: two machines with one id.
witness = Table(
    "witness",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("witness", String(64), primary_key=True),
    Column("board", Text, nullable=False),
    Column("boot", BigInteger, nullable=False),
    Column("epoch", String(63), nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)

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
    Index("ix_event_unrepaired", "gateway", "epoch", "seq", **_where("at_how IN ('unknown', 'bounded')")),
    Index("ix_event_clock", "gateway", "epoch", **_where("kind = 'clock'")),
    Index("ix_event_sign", "at_ms", **_where("kind = 'reader' AND reason IS NOT NULL")),
    Index("ix_event_site_at", "site", "at_ms"),
    Index("ix_event_unsure", "at_ms", **_where("at_how <> 'set'")),
    Index("ix_event_person_at", "person", "at_ms", **_where("person IS NOT NULL")),
    Index("ix_event_unmatched", "site", "card_key", **_where("person IS NULL AND card_key IS NOT NULL")),
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

# One row: which hub this database is, who speaks for it now, and why it may not take events (`fenced`), None if it may.
hub_claim = Table(
    "hub_claim",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("instance", String(64), nullable=False),
    Column("holder", String(64), nullable=False, server_default=""),
    Column("fenced", Text),
    Column("changed_ms", BigInteger, nullable=False, server_default="0"),
    Column("alarm", Text),
    Column("alarm_ms", BigInteger),
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

# Where the hash chain of a gateway does not hold: `missing` events `first`..`last` are nowhere, `broken` says that
# `last` does not follow from `first` as it stands here.
chain_fault = Table(
    "chain_fault",
    metadata,
    Column("gateway", ForeignKey("gateway.id"), primary_key=True, autoincrement=False),
    Column("epoch", String(63), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("what", String(15), nullable=False),
    Column("found_ms", BigInteger, nullable=False),
)

# Bytes that are not an event, once each (`digest`), with how often they came.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _RowId, primary_key=True),
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

# What a point does while it lacks a clock or a fresh roster (see access.people); `point` may be `*` for every point.
point_policy = Table(
    "point_policy",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("point", Text, primary_key=True),
    Column("unset_clock", String(31), nullable=False),
    Column("stale", String(15), nullable=False),
    Column("stale_after_hours", Integer, nullable=False),
)

holiday = Table(
    "holiday",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
)

# The signed files that were published; `digest` is of what they say without version and date, so that nothing new is
# published when nothing changed.
roster_generation = Table(
    "roster_generation",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("cards", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("file", LargeBinary, nullable=False),
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

# Who changed what; only ever appended.
audit = Table(
    "audit",
    metadata,
    Column("id", _RowId, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("site", String(63), nullable=False),
    Column("operation", String(31), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("run", ForeignKey("sync_run.id")),
    Index(None, "subject"),
)
