"""Watermarks: which sequence numbers of one epoch the hub holds, computed and stored."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, select, update

from gateway.access.event import MEMORY_EPOCH
from gateway.hub.ingest.links import held_bytes, link_of
from gateway.hub.store import tables
from gateway.hub.store.rows import insert_if_new
from gateway.link.messages import Rejected, Watermark
from gateway.link.topics import GatewayTopics
from gateway.link.watermark import Coverage

log = logging.getLogger(__name__)

Range = tuple[int, int]
MarkKey = tuple[int, str]
MAX_NEW_EPOCHS = 50
_DAY_MS = 86_400_000
_WARN_EVERY_MS = 600_000
_warned_ms: dict[int, int] = {}
_REJECTED_SHOWN = 20
_RANGES_SENT = 50


@dataclass(slots=True)
class Touched:
    """One epoch of one gateway in a batch: bytes by number, of events and of quarantined ones."""

    topics: GatewayTopics
    raws: dict[int, bytes] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


@dataclass(slots=True)
class Mark:
    """One row of `mark` while it is locked."""

    upto: int
    have: list[Range]
    rejected: list[Rejected]
    link: str
    strict: bool
    forked: int | None
    changed: bool = False

    def holds(self, seq: int) -> bool:
        return Coverage(self.upto, self.have).covers(seq, seq)

    def fork_at(self, seq: int) -> None:
        """Note the number of an event that is not part of the stored history."""
        self.forked = seq if self.forked is None else min(seq, self.forked)
        self.changed = True


def advance(upto: int, have: Iterable[Range], seqs: Iterable[int]) -> tuple[int, list[Range]]:
    """Add sequence numbers to a watermark.

    Args:
        upto: everything from 1 up to here is held.
        have: closed ranges held above it, in order.
        seqs: new numbers in any order, repeats allowed.

    Returns:
        The new `upto` and the ranges above it: in order, neither touching nor overlapping.
    """
    coverage = Coverage(upto, list(have))
    for first, last in _runs(sorted(set(seqs))):
        coverage.add(first, last)
    return coverage.upto, coverage.have


def _runs(ordered: list[int]) -> list[Range]:
    runs: list[Range] = []
    for seq in ordered:
        if runs and seq == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs


def lock_marks(
    connection: Connection, touched: Iterable[MarkKey], at_ms: int, *, also: Iterable[MarkKey] = ()
) -> dict[MarkKey, Mark]:
    """Lock and read the marks of a batch, adding those that are new.

    Locked in key order and before any event is written, so that two workers never wait for each other in a circle.

    Args:
        also: marks that are locked when they exist and not returned.

    Returns:
        The marks; without those of journals that a gateway may not begin today, because it began MAX_NEW_EPOCHS.
    """
    table = tables.mark
    marks: dict[MarkKey, Mark] = {}
    touched_keys = set(touched)
    known = _known_epochs(connection, {gateway for gateway, _ in touched_keys})
    full: set[tuple[int, bool]] = set()
    for gateway, epoch in sorted(touched_keys | set(also)):
        kind = gateway, epoch.startswith(MEMORY_EPOCH)
        if kind in full and epoch not in known[gateway]:
            continue
        query = (
            select(table.c.upto, table.c.have, table.c.rejected, table.c.link, table.c.strict, table.c.forked)
            .where(table.c.gateway == gateway, table.c.epoch == epoch)
            .with_for_update()
        )
        row = connection.execute(query).one_or_none()
        if (gateway, epoch) not in touched_keys:
            continue
        if row is None:
            if not add_mark(connection, gateway, epoch, at_ms):
                full.add(kind)
                continue
            row = connection.execute(query).one()
        marks[gateway, epoch] = Mark(
            row.upto, read_ranges(row.have), _decode_rejected(row.rejected), row.link, row.strict, row.forked
        )
    return marks


def _known_epochs(connection: Connection, gateways: set[int]) -> dict[int, set[str]]:
    table = tables.mark
    known: dict[int, set[str]] = {gateway: set() for gateway in gateways}
    for gateway, epoch in connection.execute(
        select(table.c.gateway, table.c.epoch).where(table.c.gateway.in_(sorted(gateways)))
    ):
        known[gateway].add(epoch)
    return known


def add_mark(connection: Connection, gateway: int, epoch: str, at_ms: int, *, strict: bool = False) -> bool:
    """Add the mark of a new journal; False when its gateway began too many today."""
    table = tables.mark
    mine = table.c.gateway == gateway
    is_memory = epoch.startswith(MEMORY_EPOCH)
    same_kind = table.c.epoch.startswith(MEMORY_EPOCH) if is_memory else ~table.c.epoch.startswith(MEMORY_EPOCH)
    began = select(func.count()).where(mine, same_kind, table.c.first_ms > at_ms - _DAY_MS)
    if (connection.scalar(began) or 0) >= MAX_NEW_EPOCHS:
        if at_ms - _warned_ms.get(gateway, -_WARN_EVERY_MS) >= _WARN_EVERY_MS:
            # Whoever forges epochs must not fill the log with them.
            _warned_ms[gateway] = at_ms
            log.error(
                "gateway %s began more than %s journals within a day; no further one is taken", gateway, MAX_NEW_EPOCHS
            )
        return False
    # The first journal of a gateway is taken as it is; a later one is a new card or a new Pi, and somebody has to say
    # that this is right.
    # The numbers of a gateway's memory are no journal: a card that refuses writes is told elsewhere.
    is_first = is_memory or connection.scalar(select(table.c.epoch).where(mine, same_kind).limit(1)) is None
    empty = {"upto": 0, "have": "[]", "rejected": "[]", "changed_ms": at_ms, "first_ms": at_ms, "verified": 0}
    empty |= {"accepted_ms": at_ms, "accepted_by": "hub"} if is_first else {}
    insert_if_new(connection, table, {"gateway": gateway, "epoch": epoch, **empty, "link": "", "strict": strict})
    return True


_MOVED = ("upto", "have", "rejected", "changed_ms", "link", "forked")
_MOVE_MARK = (
    update(tables.mark)
    .where(tables.mark.c.gateway == bindparam("of"), tables.mark.c.epoch == bindparam("in_epoch"))
    .values({name: bindparam(f"new_{name}") for name in _MOVED})
)


def move_marks(
    connection: Connection, touched: dict[MarkKey, Touched], marks: dict[MarkKey, Mark], at_ms: int
) -> list[tuple[GatewayTopics, Watermark]]:
    """Advance the locked marks over what is now held; return the watermarks to send once this is committed."""
    moves = []
    watermarks = []
    for key in [*touched, *(key for key, mark in marks.items() if key not in touched and mark.changed)]:
        old, entry = marks[key], touched.get(key)
        upto, have, rejected, link = old.upto, old.have, old.rejected, old.link
        if entry is not None:
            upto, have = advance(old.upto, old.have, entry.raws)
            news = [item for item in entry.rejected if item not in old.rejected]
            rejected = (old.rejected + news)[-_REJECTED_SHOWN:]
            if upto != old.upto:
                raw = entry.raws.get(upto) or held_bytes(connection, *key, [upto]).get(upto)
                link = link_of(raw) if raw is not None else ""
            watermarks.append((entry.topics, Watermark(key[1], upto, have[:_RANGES_SENT], rejected, link)))
        if not old.changed and (upto, have, rejected, link) == (old.upto, old.have, old.rejected, old.link):
            continue
        move = {"of": key[0], "in_epoch": key[1], "new_upto": upto, "new_changed_ms": at_ms, "new_link": link}
        move["new_have"] = msgspec.json.encode(have).decode()
        move["new_rejected"] = msgspec.json.encode(rejected).decode()
        move["new_forked"] = old.forked
        moves.append(move)
    if moves:
        connection.execute(_MOVE_MARK, moves)
    return watermarks


def stored_watermarks(connection: Connection, gateway: int | None = None) -> list[tuple[GatewayTopics, Watermark]]:
    """Return the stored watermark of every gateway's newest epoch, or of one gateway.

    The newest epoch is that of the last birth; for a gateway without a birth it is the mark that moved last.
    """
    table, owner = tables.mark, tables.gateway
    query = (
        select(owner.c.site, owner.c.name, table.c.epoch, table.c.upto, table.c.have, table.c.rejected, table.c.link)
        .join_from(table, owner, owner.c.id == table.c.gateway)
        .order_by((table.c.epoch == owner.c.epoch).desc(), table.c.changed_ms.desc())
    )
    if gateway is not None:
        query = query.where(owner.c.id == gateway)
    newest: dict[GatewayTopics, Watermark] = {}
    for row in connection.execute(query):
        newest.setdefault(GatewayTopics(row.site, row.name), _stored(row))
    return list(newest.items())


def watermark_of(connection: Connection, gateway: int, epoch: str) -> Watermark:
    """Return the stored watermark of one journal, an empty one where nothing is held."""
    table = tables.mark
    query = select(table.c.epoch, table.c.upto, table.c.have, table.c.rejected, table.c.link)
    row = connection.execute(query.where(table.c.gateway == gateway, table.c.epoch == epoch)).one_or_none()
    return Watermark(epoch, 0) if row is None else _stored(row)


def _stored(row: Any) -> Watermark:
    have = read_ranges(row.have)[:_RANGES_SENT]
    return Watermark(row.epoch, row.upto, have, _decode_rejected(row.rejected), row.link)


def skip_lost(connection: Connection, gateway: int, epoch: str, before: int, at_ms: int) -> tuple[int, int] | None:
    """Move a mark over events below `before` that its gateway no longer has; return their range, None without any."""
    key = (gateway, epoch)
    marks = lock_marks(connection, [key], at_ms)
    if key not in marks or before <= marks[key].upto + 1:
        return None
    upto, have = marks[key].upto, marks[key].have
    coverage = Coverage(upto, have)
    coverage.add(1, before - 1)
    raw = held_bytes(connection, gateway, epoch, [coverage.upto]).get(coverage.upto)
    values = {"upto": coverage.upto, "have": msgspec.json.encode(coverage.have).decode(), "changed_ms": at_ms}
    # The lost bytes are unknown, so the link of the next event cannot be checked.
    values["link"] = link_of(raw) if raw is not None else ""
    table = tables.mark
    connection.execute(update(table).where(table.c.gateway == gateway, table.c.epoch == epoch).values(values))
    return upto + 1, before - 1


def read_ranges(text: str) -> list[Range]:
    """Read the column `have`."""
    return msgspec.json.decode(text, type=list[Range])


def _decode_rejected(text: str) -> list[Rejected]:
    return msgspec.json.decode(text, type=list[Rejected])
