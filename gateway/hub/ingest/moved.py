"""Events that arrive again under another number, from a card that was copied or restored from an older image.

Such a gateway writes them into a new epoch and gives in `was` the number that each had first. The content of an event
without its numbers shows whether the hub already has it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, select

from gateway.access.event import Event
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices, insert_if_new

_NUMBERS = ("epoch", "seq", "prev", "was")
Key = tuple[int, str, int]


def what_it_says(raw: bytes) -> str:
    """Return the SHA-256 of an event without its numbers, as hex: the same before and after it was moved."""
    event: dict[str, Any] = msgspec.json.decode(raw)
    for name in _NUMBERS:
        event.pop(name, None)
    return hashlib.sha256(msgspec.json.encode(event)).hexdigest()


def known_elsewhere(connection: Connection, direct: Iterable[tuple[Key, bytes]]) -> set[Key]:
    """Return which events, under their first numbers, are held under another one."""
    by_epoch: dict[tuple[int, str], dict[int, bytes]] = defaultdict(dict)
    for (gateway, epoch, seq), raw in direct:
        by_epoch[gateway, epoch][seq] = raw
    table = tables.moved_event
    # Moved events are rare, so most batches cost only this one query.
    owners = select(table.c.gateway, table.c.epoch).where(table.c.gateway.in_({key[0] for key in by_epoch})).distinct()
    found: set[Key] = set()
    for gateway, epoch in connection.execute(owners).all() if by_epoch else ():
        raws = by_epoch.get((gateway, epoch), {})
        for some in in_slices(sorted(raws)):
            query = select(table.c.seq, table.c.digest).where(
                table.c.gateway == gateway, table.c.epoch == epoch, table.c.seq.in_(some)
            )
            found |= {
                (gateway, epoch, seq) for seq, digest in connection.execute(query) if what_it_says(raws[seq]) == digest
            }
    return found


def is_copy(connection: Connection, gateway: int, event: Event, raw: bytes) -> bool:
    """Return whether a moved event is already stored; if not, remember where it now is."""
    assert event.was is not UNSET
    digest = what_it_says(raw)
    held, moved = tables.event, tables.moved_event
    first = connection.scalar(
        select(held.c.raw).where(
            held.c.gateway == gateway, held.c.epoch == event.was.epoch, held.c.seq == event.was.seq
        )
    )
    if first is not None and what_it_says(bytes(first)) == digest:
        return True
    key = {"gateway": gateway, "epoch": event.was.epoch, "seq": event.was.seq, "digest": digest}
    if insert_if_new(connection, moved, {**key, "at_epoch": event.epoch, "at_seq": event.seq}):
        return False
    mine = [moved.c[name] == value for name, value in key.items()]
    at = connection.execute(select(moved.c.at_epoch, moved.c.at_seq).where(*mine)).one()
    return (at.at_epoch, at.at_seq) != (event.epoch, event.seq)


def keep_copy(connection: Connection, gateway: int, event: Event, raw: bytes) -> None:
    """Keep the bytes of a copy under its own number, where the chain needs them."""
    row = {"gateway": gateway, "epoch": event.epoch, "seq": event.seq, "raw": raw}
    insert_if_new(connection, tables.event_copy, row)
