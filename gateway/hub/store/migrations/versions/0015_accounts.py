"""Accounts, what each may do, and how each signs in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ONE_A_KIND = sa.text("kind = 'password' OR kind = 'totp'")


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_norm", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("email_norm", name=op.f("uq_account_email_norm")),
    )
    op.create_table(
        "account_grant",
        sa.Column("id", sa.Integer(), nullable=False),
        _account("account_grant"),
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_account_grant_site"))),
        sa.Column("role", sa.String(31), nullable=False),
        sa.Column("switches", sa.JSON(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_grant")),
    )
    op.create_index(op.f("ix_account_grant_account"), "account_grant", ["account"])
    _make_ways()
    _make_tokens()
    op.create_table(
        "email_domain",
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_email_domain_site")), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", "domain", name=op.f("pk_email_domain")),
    )


def _account(table: str, *, nullable: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey("account.id", name=op.f(f"fk_{table}_account"))
    return sa.Column("account", sa.Integer(), key, nullable=nullable)


def _make_ways() -> None:
    op.create_table(
        "sign_in_way",
        sa.Column("id", sa.Integer(), nullable=False),
        _account("sign_in_way"),
        sa.Column("kind", sa.String(15), nullable=False),
        sa.Column("issuer", sa.Text()),
        sa.Column("subject", sa.Text()),
        sa.Column("secret", sa.Text()),
        sa.Column("last_step", sa.BigInteger()),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_way")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_sign_in_way_issuer_subject")),
    )
    op.create_index(op.f("ix_sign_in_way_account_kind"), "sign_in_way", ["account", "kind"])
    op.create_index(
        "uq_sign_in_way_one_a_kind",
        "sign_in_way",
        ["account", "kind"],
        unique=True,
        sqlite_where=_ONE_A_KIND,
        postgresql_where=_ONE_A_KIND,
    )
    op.create_table(
        "web_session",
        sa.Column("token_hash", sa.String(64), nullable=False),
        _account("web_session"),
        sa.Column("stage", sa.String(15), nullable=False),
        sa.Column("way", sa.String(15), nullable=False),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("proved_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_web_session")),
    )
    op.create_index(op.f("ix_web_session_account"), "web_session", ["account"])


def _make_tokens() -> None:
    op.create_table(
        "one_time_token",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(15), nullable=False),
        _account("one_time_token", nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_one_time_token")),
    )
    op.create_index(op.f("ix_one_time_token_until_ms"), "one_time_token", ["until_ms"])
    op.create_table(
        "api_token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("site", sa.String(63), sa.ForeignKey("site.id", name=op.f("fk_api_token_site"))),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger()),
        sa.Column("ended_ms", sa.BigInteger()),
        sa.Column("seen_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_token_token_hash")),
    )
    op.create_table(
        "attempt",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    op.create_index(op.f("ix_attempt_key_at_ms"), "attempt", ["key", "at_ms"])
    op.create_index(op.f("ix_attempt_at_ms"), "attempt", ["at_ms"])
