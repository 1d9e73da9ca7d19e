"""The hash chain of every gateway, followed at the hub: proof that nothing was dropped, edited or reordered.

Event n + 1 carries in `prev` the first 16 bytes of the SHA-256 of event n as it was journaled. The hub keeps those
bytes, so it can follow the chain by itself, page by page below the watermark, and name the exact place of a fault.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, select, update

from gateway.access.event import FIRST_PREV
from gateway.errors import RefusedError
from gateway.hub.ingest.links import link_of
from gateway.hub.scope import ALL_SITES, Sites
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.rows import insert_if_new

log = logging.getLogger(__name__)

PAGE_EVENTS = 2000


class _Prev(msgspec.Struct):
    prev: str


_PREV = msgspec.json.Decoder(_Prev)


@dataclass(frozen=True, slots=True)
class ChainFault:
    """`missing`: nothing is here from `first` to `last`. `broken`: `last` does not follow from `first`."""

    what: str
    first: int
    last: int


def follow(raws: dict[int, bytes], first: int, last: int) -> list[ChainFault]:
    """Follow the chain over a range.

    Args:
        raws: the stored bytes by number, with those of `first` - 1 unless `first` is 1.
    """
    faults: list[ChainFault] = []
    for seq in range(first, last + 1):
        raw = raws.get(seq)
        if raw is None:
            if faults and faults[-1].what == "missing" and faults[-1].last == seq - 1:
                faults[-1] = ChainFault("missing", faults[-1].first, seq)
            else:
                faults.append(ChainFault("missing", seq, seq))
            continue
        before = raws.get(seq - 1)
        expected = FIRST_PREV if seq == 1 else link_of(before) if before is not None else None
        carried = _carried(raw)
        if expected is not None and carried is not None and carried != expected:
            faults.append(ChainFault("broken", seq - 1, seq))
    return faults


def _carried(raw: bytes) -> str | None:
    try:
        return _PREV.decode(raw).prev
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Its content is in quarantine, but its bytes are still the link to the next one.
        return None


def verify_page(connection: Connection, gateway: int, epoch: str) -> int:
    """Follow the next page of one epoch's chain, keep the faults, and return how many events were followed."""
    mark = tables.mark
    mine = (mark.c.gateway == gateway, mark.c.epoch == epoch)
    row = connection.execute(select(mark.c.upto, mark.c.verified).where(*mine)).one()
    first, last = row.verified + 1, min(row.upto, row.verified + PAGE_EVENTS)
    if last < first:
        return 0
    raws = _load(connection, gateway, epoch, first - 1, last)
    for fault in follow(raws, first, last):
        found = {"gateway": gateway, "epoch": epoch, "first": fault.first, "last": fault.last, "what": fault.what}
        if insert_if_new(connection, tables.chain_fault, {**found, "found_ms": now_ms()}):
            log.error(
                "gateway %d, epoch %s: the chain is %s at %d..%d", gateway, epoch, fault.what, fault.first, fault.last
            )
    connection.execute(update(mark).where(*mine).values(verified=last))
    return int(last - first + 1)


def _load(connection: Connection, gateway: int, epoch: str, first: int, last: int) -> dict[int, bytes]:
    quarantine, owner = tables.quarantine, tables.gateway
    topic = connection.execute(select(owner.c.site, owner.c.name).where(owner.c.id == gateway)).one()
    prefix = f"tapgate/v1/{topic.site}/{topic.name}/"
    # The first copy of an event is the one that counts, so those that were refused stand after it.
    refused = select(quarantine.c.seq, quarantine.c.payload).where(
        quarantine.c.epoch == epoch,
        quarantine.c.seq.between(first, last),
        quarantine.c.topic.startswith(prefix, autoescape=True),
    )
    raws = {seq: bytes(payload) for seq, payload in connection.execute(refused)}
    for table in (tables.event_copy, tables.event):
        stored = select(table.c.seq, table.c.raw).where(
            table.c.gateway == gateway, table.c.epoch == epoch, table.c.seq.between(first, last)
        )
        raws.update((seq, bytes(raw)) for seq, raw in connection.execute(stored))
    return raws


def verify_all(store: Store, stopping: Callable[[], bool] = lambda: False) -> int:
    """Follow every chain to its watermark; return how many events were followed."""
    mark = tables.mark
    with store.read() as connection:
        after = connection.execute(
            select(mark.c.gateway, mark.c.epoch).where(mark.c.upto > mark.c.verified).order_by(mark.c.gateway)
        ).all()
    total = 0
    for gateway, epoch in after:
        while not stopping():
            with store.write() as connection:
                followed = verify_page(connection, gateway, epoch)
            total += followed
            if followed < PAGE_EVENTS:
                break
    return total


@dataclass(frozen=True, slots=True)
class NewJournal:
    """A journal begun after a gateway's first, waiting to be accepted."""

    gateway_id: int
    gateway: str
    epoch: str
    first_ms: int


def list_new_journals(connection: Connection, sites: Sites = ALL_SITES) -> list[NewJournal]:
    mark, owner = tables.mark, tables.gateway
    query = (
        select(owner.c.id, owner.c.site, owner.c.name, mark.c.epoch, mark.c.first_ms)
        .join_from(mark, owner)
        .where(mark.c.accepted_ms.is_(None), sites.hold(owner.c.site))
        .order_by(mark.c.first_ms)
    )
    return [
        NewJournal(row.id, f"{row.site} / {row.name}", row.epoch, row.first_ms) for row in connection.execute(query)
    ]


def accept_journal(store: Store, gateway: int, epoch: str, actor: str) -> None:
    """Accept a gateway's new journal, for instance because its SD card was replaced.

    Raises:
        RefusedError: there is no such journal waiting.
    """
    mark = tables.mark
    with store.write() as connection:
        accepted = {"accepted_ms": now_ms(), "accepted_by": actor}
        mine = (mark.c.gateway == gateway, mark.c.epoch == epoch, mark.c.accepted_ms.is_(None))
        if connection.execute(update(mark).where(*mine).values(accepted)).rowcount != 1:
            raise RefusedError("This journal is no longer waiting to be accepted; reload the page.")
        owner = tables.gateway
        row = connection.execute(select(owner.c.site, owner.c.name).where(owner.c.id == gateway)).one()
        audit = Audit(actor, row.site, now_ms())
        audit.note("journal_accept", row.name, epoch=epoch)
        audit.write(connection)


def list_faults(connection: Connection, sites: Sites = ALL_SITES) -> list[tuple[str, str, ChainFault]]:
    """Return every known fault as gateway, epoch and place."""
    fault, owner = tables.chain_fault, tables.gateway
    query = (
        select(owner.c.site, owner.c.name, fault)
        .join_from(fault, owner)
        .where(sites.hold(owner.c.site))
        .order_by(fault.c.found_ms.desc())
        .limit(200)
    )
    return [
        (f"{row.site} / {row.name}", row.epoch, ChainFault(row.what, row.first, row.last))
        for row in connection.execute(query)
    ]
