"""Stores bytes that could not be used: once each, within a quota per gateway; beyond it they are only counted."""

from __future__ import annotations

import hashlib
import logging

from sqlalchemy import Connection, select, update

from gateway.hub.ingest.parse import Fault
from gateway.hub.store import tables
from gateway.hub.store.rows import insert_if_new
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
    digest = hashlib.sha256(topic.encode() + b"\0" + fault.payload).hexdigest()
    changed = {"count": table.c.count + 1, "last_ms": at_ms}
    if connection.execute(update(table).where(table.c.digest == digest).values(changed)).rowcount:
        return True
    payload = fault.payload[:_KEPT_BYTES]
    if not _take_room(connection, _scope(topic), len(payload)):
        return False
    row = {"topic": topic[:1000], "epoch": fault.epoch, "seq": fault.seq, "payload": payload, "why": fault.why}
    row |= {"digest": digest, "count": 1, "first_ms": at_ms, "last_ms": at_ms}
    if not insert_if_new(connection, table, row):
        # Another worker stored the same bytes at the same moment.
        connection.execute(update(table).where(table.c.digest == digest).values(changed))
    return True


def _scope(topic: str) -> str:
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
