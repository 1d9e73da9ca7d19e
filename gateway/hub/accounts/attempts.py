"""Limits on attempts; they are rows, so they survive a restart and hold for every process of the hub."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from gateway.hub.store import tables

_KEPT_MS = 24 * 3600 * 1000
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts within a window are free; each further one doubles the wait, up to the window.

    Attributes:
        name: what is counted; the same key under another name is counted apart.
    """

    name: str
    free: int
    window_minutes: int


BY_ACCOUNT = Limit("account", 5, 15)
BY_ADDRESS = Limit("address", 40, 15)
BY_CODE = Limit("code", 5, 15)
# Ids of pupils can be guessed, so nobody tries many of them.
BY_CLAIM = Limit("claim", 20, 60)
# Each makes the hub write to somebody who may not have asked for it.
BY_RESET = Limit("reset", 3, 60)
BY_RESET_ADDRESS = Limit("reset address", 20, 60)


def wait_seconds(connection: Connection, limit: Limit, key: str, at_ms: int) -> int:
    """Return how long until the next attempt with this key is allowed, 0 when it is."""
    table = tables.attempt
    since = at_ms - limit.window_minutes * _MINUTE_MS
    query = select(func.count(), func.max(table.c.at_ms)).where(table.c.key == _hash(limit, key), table.c.at_ms > since)
    count, last = connection.execute(query).one()
    if count < limit.free:
        return 0
    wait_ms = min(2 ** (count - limit.free), limit.window_minutes) * _MINUTE_MS
    return max(0, -int((at_ms - last - wait_ms) // 1000))


def note_attempt(connection: Connection, limit: Limit, key: str, at_ms: int) -> None:
    """Count an attempt; do so before it is examined, so that many at once count too."""
    table = tables.attempt
    connection.execute(delete(table).where(table.c.at_ms < at_ms - _KEPT_MS))
    connection.execute(insert(table).values(key=_hash(limit, key), at_ms=at_ms))


def forget_attempts(connection: Connection, limit: Limit, key: str) -> None:
    """Forget the attempts of a key that was then used rightly."""
    connection.execute(delete(tables.attempt).where(tables.attempt.c.key == _hash(limit, key)))


def _hash(limit: Limit, key: str) -> str:
    # The rows outlive accounts and addresses, so they hold neither.
    return hashlib.sha256(f"{limit.name}\n{key}".encode()).hexdigest()
