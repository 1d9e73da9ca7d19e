"""The links of the hash chain, as the hub computes them from the bytes it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import Connection, select

from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices


def link_of(raw: bytes) -> str:
    """Return what the event after these bytes must carry as `prev`: 32 hex digits."""
    return hashlib.sha256(raw).hexdigest()[:32]


def held_bytes(connection: Connection, gateway: int, epoch: str, seqs: Iterable[int]) -> dict[int, bytes]:
    """Return the bytes that are held under some numbers: events, copies of events held elsewhere, and the refused."""
    quarantine, owner = tables.quarantine, tables.gateway
    numbers = sorted(set(seqs))
    found: dict[int, bytes] = {}
    for some in in_slices(numbers):
        for table in (tables.event_copy, tables.event):
            mine = (table.c.gateway == gateway, table.c.epoch == epoch, table.c.seq.in_(some))
            found.update(
                (seq, bytes(raw)) for seq, raw in connection.execute(select(table.c.seq, table.c.raw).where(*mine))
            )
    missing = [seq for seq in numbers if seq not in found]
    if missing:
        of = connection.execute(select(owner.c.site, owner.c.name).where(owner.c.id == gateway)).one()
        prefix = f"tapgate/v1/{of.site}/{of.name}/"
        for some in in_slices(missing):
            refused = select(quarantine.c.seq, quarantine.c.payload).where(
                quarantine.c.epoch == epoch,
                quarantine.c.seq.in_(some),
                quarantine.c.topic.startswith(prefix, autoescape=True),
            )
            found.update((seq, bytes(payload)) for seq, payload in connection.execute(refused))
    return found
