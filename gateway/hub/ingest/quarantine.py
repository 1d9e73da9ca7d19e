"""Stores bytes that could not be used: once each, within a quota per gateway; beyond it they are only counted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from gateway.hub.ingest.parse import Fault
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices, insert_if_new
from gateway.link.topics import parse_gateway_topic

log = logging.getLogger(__name__)

MAX_ROWS = 2000
MAX_BYTES = 8 << 20
_KEPT_BYTES = 64 * 1024


def quarantine(connection: Connection, topic: str, fault: Fault, at_ms: int) -> bool:
    """Store bytes that could not be used; repeats only raise the count. Return whether they are stored.

    Of a longer payload the first 64 KiB are kept. What comes after a gateway's quota is used up is counted in
    `quarantine_use.dropped`.
    """
    table = tables.quarantine
    digest = _digest(topic, fault)
    changed = {"count": table.c.count + 1, "last_ms": at_ms}
    if connection.execute(update(table).where(table.c.digest == digest).values(changed)).rowcount:
        return True
    payload = fault.payload[:_KEPT_BYTES]
    if not _take_room(connection, scope_of(topic), len(payload)):
        return False
    row = {"topic": topic[:1000], "epoch": fault.epoch, "seq": fault.seq, "payload": payload, "why": fault.why}
    row |= {"digest": digest, "count": 1, "first_ms": at_ms, "last_ms": at_ms}
    if not insert_if_new(connection, table, row):
        # Another worker stored the same bytes at the same moment.
        connection.execute(update(table).where(table.c.digest == digest).values(changed))
    return True


def count_beyond_quota(connection: Connection, topic: str, faults: Sequence[Fault], at_ms: int) -> list[bool]:
    """Count the faults of a gateway whose quota is used up, in a few statements; tell which bytes are kept."""
    table, use = tables.quarantine, tables.quarantine_use
    digests = [_digest(topic, fault) for fault in faults]
    held: set[str] = set()
    for some in in_slices(digests):
        held |= set(connection.scalars(select(table.c.digest).where(table.c.digest.in_(some))))
    for digest in held:
        again = {"count": table.c.count + digests.count(digest), "last_ms": at_ms}
        connection.execute(update(table).where(table.c.digest == digest).values(again))
    dropped = sum(digest not in held for digest in digests)
    more = {"dropped": use.c.dropped + dropped}
    connection.execute(update(use).where(use.c.scope == scope_of(topic)).values(more))
    return [digest in held for digest in digests]


def _digest(topic: str, fault: Fault) -> str:
    return hashlib.sha256(topic.encode() + b"\0" + fault.payload).hexdigest()


def scope_of(topic: str) -> str:
    """Return whose quota a topic counts against: SITE/GATEWAY, empty for a topic of no gateway."""
    parts = parse_gateway_topic(topic)
    return f"{parts[0][:63]}/{parts[1][:63]}" if parts else ""


def _take_room(connection: Connection, scope: str, size: int) -> bool:
    table = tables.quarantine_use
    insert_if_new(connection, table, {"scope": scope, "rows": 0, "bytes": 0, "dropped": 0})
    mine = table.c.scope == scope
    used = connection.execute(select(table.c.rows, table.c.bytes, table.c.dropped).where(mine).with_for_update()).one()
    if used.rows >= MAX_ROWS or used.bytes + size > MAX_BYTES:
        if not used.dropped:
            log.error(
                "the quarantine of %s is full: further bytes are only counted; check the quarantine page",
                scope or "topics of no gateway",
            )
        connection.execute(update(table).where(mine).values(dropped=table.c.dropped + 1))
        return False
    connection.execute(update(table).where(mine).values(rows=table.c.rows + 1, bytes=table.c.bytes + size))
    return True
