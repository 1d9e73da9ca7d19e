"""Events that were corrected after they came: whoever has made something of them makes it again."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, insert

from gateway.hub.store import tables

EventKey = tuple[int, str, int]


def note_revised(connection: Connection, keys: Iterable[EventKey]) -> None:
    """Note events, each by gateway, epoch and number, in the transaction that corrects them."""
    rows = [{"gateway": gateway, "epoch": epoch, "seq": seq} for gateway, epoch, seq in keys]
    if rows:
        connection.execute(insert(tables.event_revision), rows)
