"""Links that work once, and tokens for programs; the database keeps only their hashes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, or_, select, update

from gateway.errors import RefusedError
from gateway.hub.scope import TOKEN_SCOPES, Scope, token_scope
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit

LINK_MS = 24 * 3600 * 1000
RESET_MS = 3600 * 1000
OIDC_MS = 10 * 60 * 1000
_API_PREFIX = "tg_"
_SEEN_EVERY_MS = 60_000
# Anybody may ask for a mail that sets a new password, so `forgot` never ends a link that somebody was given, `reset`.
Kind = Literal["invite", "reset", "forgot", "oidc"]


@dataclass(frozen=True, slots=True)
class OneTime:
    """What a one-time token stands for."""

    kind: str
    account: int | None
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token for a program, as pages show it."""

    id: int
    name: str
    scopes: tuple[str, ...]
    site: str | None
    by: str
    created_ms: int
    until_ms: int | None
    seen_ms: int | None


def token_hash(token: str) -> str:
    """Return what the database keeps of a token; 256 random bits need no salt."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def make_one_time(
    connection: Connection,
    kind: Kind,
    at_ms: int,
    *,
    account: int | None = None,
    lasts_ms: int = LINK_MS,
    payload: Mapping[str, Any] | None = None,
) -> str:
    """Make a token that works once; an older one of this kind for the same account works no more."""
    table = tables.one_time_token
    connection.execute(delete(table).where(table.c.until_ms <= at_ms))
    if account is not None:
        connection.execute(delete(table).where(table.c.account == account, table.c.kind == kind))
    token = secrets.token_urlsafe(32)
    values = {"token_hash": token_hash(token), "kind": kind, "account": account, "payload": dict(payload or {})}
    connection.execute(insert(table).values(**values, created_ms=at_ms, until_ms=at_ms + lasts_ms))
    return token


def look_at_one_time(connection: Connection, token: str, kinds: tuple[Kind, ...], at_ms: int) -> OneTime | None:
    """Return what a token stands for and leave it usable; None when it is unknown, used or too old."""
    table = tables.one_time_token
    query = select(table.c.kind, table.c.account, table.c.payload)
    query = query.where(table.c.token_hash == token_hash(token), table.c.kind.in_(kinds), table.c.until_ms > at_ms)
    row = connection.execute(query).one_or_none()
    return None if row is None else OneTime(*row)


def use_one_time(connection: Connection, token: str, kinds: tuple[Kind, ...], at_ms: int) -> OneTime | None:
    """Use a token up; of two callers at once only one gets what it stands for."""
    found = look_at_one_time(connection, token, kinds, at_ms)
    table = tables.one_time_token
    gone = connection.execute(delete(table).where(table.c.token_hash == token_hash(token)))
    return found if gone.rowcount == 1 else None


def end_one_time(connection: Connection, account: int) -> None:
    """End the links of an account that nobody has used yet."""
    table = tables.one_time_token
    connection.execute(delete(table).where(table.c.account == account))


def make_api_token(
    connection: Connection,
    name: str,
    scopes: tuple[str, ...],
    site: str | None,
    audit: Audit,
    *,
    until_ms: int | None = None,
) -> str:
    """Make a token for a program; it is shown once and cannot be found out later.

    Raises:
        RefusedError: a scope or the site is unknown.
    """
    if unknown := sorted(set(scopes) - TOKEN_SCOPES.keys()):
        raise RefusedError(f"{unknown[0]!r} is not a scope; known are {', '.join(TOKEN_SCOPES)}.")
    if not scopes:
        raise RefusedError(f"A token needs at least one scope; known are {', '.join(TOKEN_SCOPES)}.")
    if site is not None and connection.scalar(select(tables.site.c.id).where(tables.site.c.id == site)) is None:
        raise RefusedError(f"There is no site {site!r}; choose one of hub.toml.")
    token = _API_PREFIX + secrets.token_urlsafe(32)
    values: dict[str, Any] = {"name": name, "scopes": sorted(set(scopes)), "site": site, "until_ms": until_ms}
    values |= {"token_hash": token_hash(token), "by": audit.actor, "created_ms": audit.at_ms}
    connection.execute(insert(tables.api_token).values(values))
    audit.note("token_created", f"token:{name}", scopes=values["scopes"], site=site)
    return token


def scope_of_token(connection: Connection, token: str, at_ms: int) -> Scope | None:
    """Return what a program's token may do; None when it is unknown, ended or too old."""
    table = tables.api_token
    query = select(table).where(table.c.token_hash == token_hash(token), *_in_force(at_ms))
    row = connection.execute(query).one_or_none()
    return None if row is None else token_scope(f"token:{row.name}", row.scopes, row.site)


def is_token_note_due(connection: Connection, token: str, at_ms: int) -> bool:
    """Return whether it is time to note that a token is in use; each request would be a write too many."""
    table = tables.api_token
    late = or_(table.c.seen_ms.is_(None), table.c.seen_ms < at_ms - _SEEN_EVERY_MS)
    query = select(table.c.id).where(table.c.token_hash == token_hash(token), late)
    return connection.scalar(query) is not None


def note_token_seen(connection: Connection, token: str, at_ms: int) -> None:
    """Note when a token was last used."""
    table = tables.api_token
    connection.execute(update(table).where(table.c.token_hash == token_hash(token)).values(seen_ms=at_ms))


def list_api_tokens(connection: Connection, at_ms: int) -> list[ApiToken]:
    """Return the tokens in force, the newest first."""
    table = tables.api_token
    rows = connection.execute(select(table).where(*_in_force(at_ms)).order_by(table.c.id.desc()))
    return [
        ApiToken(row.id, row.name, tuple(row.scopes), row.site, row.by, row.created_ms, row.until_ms, row.seen_ms)
        for row in rows
    ]


def end_api_token(connection: Connection, number: int, audit: Audit) -> None:
    """End a token at once."""
    table = tables.api_token
    connection.execute(update(table).where(table.c.id == number).values(ended_ms=audit.at_ms))
    audit.note("token_ended", f"token:{number}")


def _in_force(at_ms: int) -> tuple[Any, ...]:
    table = tables.api_token
    return table.c.ended_ms.is_(None), or_(table.c.until_ms.is_(None), table.c.until_ms > at_ms)
