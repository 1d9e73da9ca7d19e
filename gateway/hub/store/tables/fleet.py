"""The gateways, what is known of each, and the rosters published for them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from gateway.hub.store.tables.base import metadata

# `live_ms` is the newest live event's time; what comes as backlog never touches it. `acked` and `head` are the
# gateway's own words from its birth. Only with `enrolled_ms` is anything of it taken in, unless its site trusts
# whatever the broker lets in (`site.trust_unenrolled`). `verdict` is that of its own status page.
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
    Column("verdict", String(7)),
    Column("verdict_sentence", Text),
    Column("verdict_remedy", Text),
    Column("verdict_ms", BigInteger),
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

# The signed files that were published; `digest` is of what they say without version and date, so that nothing new is
# published when nothing changed. `revision` is that of the site when it was made, `made_with` names release and keys.
roster_generation = Table(
    "roster_generation",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("cards", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("file", LargeBinary, nullable=False),
    Column("revision", BigInteger),
    Column("made_with", String(32)),
)
