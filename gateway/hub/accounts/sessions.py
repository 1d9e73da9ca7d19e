"""Sessions of browsers: opaque, hashed at rest, ended by time, by signing out and by a new password."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from gateway.hub.accounts.tokens import token_hash
from gateway.hub.store import tables

ABSOLUTE_MS = 8 * 3600 * 1000
CODE_MS = 5 * 60_000
# What gives others a role or a program a token, or approves held changes, needs a proof that is no older.
FRESH_MS = 10 * 60_000
_SEEN_EVERY_MS = 30_000
_BROWSER_CHARS = 100
Stage = Literal["code", "setup", "full"]


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that somebody has signed in with.

    Attributes:
        stage: `code` and `setup` lead to the second step and to nothing else.
        way: `password` or `oidc`.
        proved_ms: when the person last proved who they are.
    """

    token_hash: str
    account: int
    stage: str
    way: str
    browser: str
    created_ms: int
    seen_ms: int
    proved_ms: int

    def is_fresh(self, at_ms: int) -> bool:
        return at_ms - self.proved_ms < FRESH_MS


def open_session(
    connection: Connection,
    account: int,
    stage: Stage,
    way: str,
    browser: str,
    at_ms: int,
    *,
    proved_ms: int | None = None,
) -> str:
    """Open a session and return its token; sessions that are over are deleted.

    Args:
        proved_ms: when the person proved who they are, if that was not now.
    """
    table = tables.web_session
    connection.execute(delete(table).where(table.c.until_ms <= at_ms))
    token = secrets.token_urlsafe(32)
    lasts_ms = CODE_MS if stage == "code" else ABSOLUTE_MS
    values: dict[str, Any] = {"token_hash": token_hash(token), "account": account, "stage": stage, "way": way}
    values |= {"browser": browser[:_BROWSER_CHARS], "until_ms": at_ms + lasts_ms}
    values["proved_ms"] = 0 if stage == "code" else at_ms if proved_ms is None else proved_ms
    connection.execute(insert(table).values(**values, created_ms=at_ms, seen_ms=at_ms))
    return token


def find_session(connection: Connection, token: str, idle_ms: int, at_ms: int) -> Session | None:
    """Return the session of a token; None when there is none, or it was idle too long."""
    table = tables.web_session
    query = select(*table.c[tuple(Session.__dataclass_fields__)])
    query = query.where(table.c.token_hash == token_hash(token), table.c.until_ms > at_ms)
    row = connection.execute(query.where(table.c.seen_ms > at_ms - idle_ms)).one_or_none()
    return None if row is None else Session(*row)


def is_touch_due(session: Session, at_ms: int) -> bool:
    """Return whether it is time to note that a session is in use; each request would be a write too many."""
    return at_ms - session.seen_ms >= _SEEN_EVERY_MS


def touch(connection: Connection, session: Session, at_ms: int) -> None:
    _set(connection, session.token_hash, seen_ms=at_ms)


def prove(connection: Connection, session: Session, at_ms: int) -> None:
    """Note that the person has just proved again who they are."""
    _set(connection, session.token_hash, proved_ms=at_ms, seen_ms=at_ms)


def end_session(connection: Connection, hashed: str, account: int) -> None:
    """End one session of an account."""
    table = tables.web_session
    connection.execute(delete(table).where(table.c.token_hash == hashed, table.c.account == account))


def end_sessions(connection: Connection, account: int, *, but: str | None = None) -> int:
    """End the sessions of an account, all or all but one; return how many."""
    table = tables.web_session
    query = delete(table).where(table.c.account == account)
    return connection.execute(query if but is None else query.where(table.c.token_hash != but)).rowcount


def list_sessions(connection: Connection, account: int, at_ms: int) -> list[Session]:
    """Return the sessions of an account, the newest first."""
    table = tables.web_session
    query = select(*table.c[tuple(Session.__dataclass_fields__)])
    query = query.where(table.c.account == account, table.c.until_ms > at_ms).order_by(table.c.created_ms.desc())
    return [Session(*row) for row in connection.execute(query)]


def _set(connection: Connection, hashed: str, **values: int) -> None:
    table = tables.web_session
    connection.execute(update(table).where(table.c.token_hash == hashed).values(**values))
