"""Who may sign in, by which way and to what, and what was tried."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from gateway.hub.store.tables.base import RowId, metadata, where

# `state`: invited, active, ended. `email_norm` is what two spellings of one address have in common.
account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", Text, nullable=False),
    Column("email_norm", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("state", String(15), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
)

# What an account may do; `site` None: at every site. `switches` names those of accounts.roles that are on,
# `groups` the groups of people that a role with reach of its own groups sees.
account_grant = Table(
    "account_grant",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("site", ForeignKey("site.id")),
    Column("role", String(31), nullable=False),
    Column("switches", JSON, nullable=False),
    Column("groups", JSON, nullable=False, server_default="[]"),
    Column("by", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger),
    Index(None, "account"),
)

# kind: password (an argon2id hash), totp (a sealed secret; `last_step` is the newest code that was used), recovery (the
# hash of a code that works once), oidc (`issuer` and `subject`).
sign_in_way = Table(
    "sign_in_way",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("kind", String(15), nullable=False),
    Column("issuer", Text),
    Column("subject", Text),
    Column("secret", Text),
    Column("last_step", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    UniqueConstraint("issuer", "subject"),
    Index(None, "account", "kind"),
    Index("uq_sign_in_way_one_a_kind", "account", "kind", unique=True, **where("kind = 'password' OR kind = 'totp'")),
)

# `stage`: code (the password was right, the second step is missing), setup (the second step must be set up), full.
web_session = Table(
    "web_session",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("stage", String(15), nullable=False),
    Column("way", String(15), nullable=False),
    Column("browser", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("proved_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Index(None, "account"),
)

# Used once: kind invite, reset (both of an account), oidc (a sign-in on its way to the issuer and back; `payload`).
one_time_token = Table(
    "one_time_token",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("kind", String(15), nullable=False),
    Column("account", ForeignKey("account.id")),
    Column("payload", JSON, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Index(None, "until_ms"),
)

# For programs; `site` None: every site.
api_token = Table(
    "api_token",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("site", ForeignKey("site.id")),
    Column("by", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("seen_ms", BigInteger),
)

# Sign-ins that were tried, so that limits survive a restart and hold over processes; `key` is a hash.
attempt = Table(
    "attempt",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("key", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index(None, "key", "at_ms"),
    Index(None, "at_ms"),
)

# The domains of staff addresses, several a school.
email_domain = Table(
    "email_domain",
    metadata,
    Column("site", ForeignKey("site.id"), primary_key=True),
    Column("domain", Text, primary_key=True),
)
