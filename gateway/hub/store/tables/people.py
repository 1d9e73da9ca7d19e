"""People, the ids by which sources know them, and their cards."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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

from gateway.hub.store.tables.base import RowId, metadata, where

# A person is the site's; what sources say about them stands in `person_claim`, and the columns here follow from the
# claims (see directory.effective). `source` is the one whose word counts first, None for people entered by hand.
# `person_key` is the MIS id as people know it, kept to the letter. `state`: active, missing (absent from the last
# complete read, still let in), inactive, out_of_scope. `groups` is every name that a rule may use, `sort_name` the
# folded name for order, `search_text` every word by which somebody is found (see directory.names).
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
    Column("sort_name", Text, nullable=False, server_default=""),
    Column("search_text", Text, nullable=False, server_default=""),
    Column("groups", JSON, nullable=False),
    Column("year", Text),
    Column("form", Text),
    Column("department", Text),
    Column("birth_date", Date),
    Column("email", Text),
    Column("state", String(15), nullable=False),
    Column("valid_from", Date),
    Column("valid_until", Date),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("left_ms", BigInteger),
    Index(None, "site", "sort_name"),
    Index(None, "site", "person_key"),
    Index(None, "source"),
)

# What one source says about one person: `data` is its mis.base.PersonFields as JSON, `state` present, missing, out (of
# what the school takes from this source) or gone.
# An id is unique per `entity` only: pupil 26 and member of staff 26 are two people. `epoch` rises when a school moves
# to another MIS under the same name of the source.
person_claim = Table(
    "person_claim",
    metadata,
    Column("source", ForeignKey("source.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("person", ForeignKey("person.ref"), primary_key=True),
    Column("entity", String(31), nullable=False),
    Column("person_key", Text, nullable=False),
    Column("stable_id", Text),
    Column("state", String(15), nullable=False),
    Column("data", Text, nullable=False),
    Column("missing_since_ms", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Index(None, "person"),
)

# Every id a source ever used. A row is never deleted: a retired id is the tombstone that refuses its second use.
identity = Table(
    "identity",
    metadata,
    Column("source", ForeignKey("source.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("entity", String(31), primary_key=True),
    Column("namespace", String(31), primary_key=True),
    Column("value", Text, primary_key=True),
    Column("person", ForeignKey("person.ref"), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("retired_ms", BigInteger),
    Column("why", Text),
    Index(None, "person"),
)

# A correction of one field by a person of the school: it wins until the source's own value changes.
field_override = Table(
    "field_override",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("person", ForeignKey("person.ref"), nullable=False),
    Column("field", String(31), nullable=False),
    Column("value", Text, nullable=False),
    Column("mis_value", Text),
    Column("by", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("closed_ms", BigInteger),
    Column("closed_why", Text),
    Index("uq_field_override_open", "person", "field", unique=True, **where("closed_ms IS NULL")),
)

# `origin` and `state_by` say who linked the card and who set its state: `source:ID` or `person:NAME`; a state that a
# person set is not undone by a sync. `waiting_for` (entity:id) belongs to a card whose person is not here yet.
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
    Column("waiting_for", Text),
    Column("valid_from", Date),
    Column("valid_until", Date),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    UniqueConstraint("site", "key"),
    Index(None, "person"),
    Index(None, "tail"),
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

# A group of a site as its sources call it; `code` is its name folded (directory.names.fold_group), `kind` one of
# directory.groups.KINDS.
grouping = Table(
    "grouping",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("site.id"), nullable=False),
    Column("kind", String(15), nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("site", "kind", "code"),
)

# Who is in a group, and who was; `until_ms` None: still.
membership = Table(
    "membership",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("grouping", ForeignKey("grouping.id"), nullable=False),
    Column("person", ForeignKey("person.ref"), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger),
    Index("uq_membership_open", "grouping", "person", unique=True, **where("until_ms IS NULL")),
    Index(None, "person"),
)

# The types of people that a site speaks of, as hub.toml has them; the first in `place` that fits is somebody's.
user_type = Table(
    "user_type",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("role", String(31), nullable=False),
    Column("years", JSON, nullable=False),
    Column("departments", JSON, nullable=False),
)
