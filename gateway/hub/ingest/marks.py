"""Watermarks: which sequence numbers of one epoch the hub holds, computed and stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import Connection, bindparam, select, update

from gateway.hub.store import tables
from gateway.hub.store.rows import insert_if_new
from gateway.link.messages import Rejected, Watermark
from gateway.link.topics import GatewayTopics
from gateway.link.watermark import Coverage

Range = tuple[int, int]
MarkKey = tuple[int, str]
_Mark = tuple[int, list[Range], list[Rejected]]
_REJECTED_SHOWN = 20
_RANGES_SENT = 50


@dataclass(slots=True)
class Touched:
    """What a batch says about one epoch of one gateway."""

    topics: GatewayTopics
    seqs: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


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


def lock_marks(connection: Connection, touched: Iterable[MarkKey], at_ms: int) -> dict[MarkKey, _Mark]:
    """Lock and read the marks of a batch, adding those that are new.

    Locked in key order and before any event is written, so that two workers never wait for each other in a circle.
    """
    table = tables.mark
    marks: dict[MarkKey, _Mark] = {}
    for gateway, epoch in sorted(touched):
        wanted = (
            select(table.c.upto, table.c.have, table.c.rejected)
            .where(table.c.gateway == gateway, table.c.epoch == epoch)
            .with_for_update()
        )
        row = connection.execute(wanted).one_or_none()
        if row is None:
            # The first journal of a gateway is taken as it is; a later one is a new card or a new Pi, and somebody has
            # to say that this is right.
            is_first = connection.scalar(select(table.c.epoch).where(table.c.gateway == gateway).limit(1)) is None
            empty = {"upto": 0, "have": "[]", "rejected": "[]", "changed_ms": at_ms, "first_ms": at_ms, "verified": 0}
            empty |= {"accepted_ms": at_ms, "accepted_by": "hub"} if is_first else {}
            insert_if_new(connection, table, {"gateway": gateway, "epoch": epoch, **empty})
            row = connection.execute(wanted).one()
        marks[gateway, epoch] = (row.upto, _decode_ranges(row.have), _decode_rejected(row.rejected))
    return marks


_MOVE_MARK = (
    update(tables.mark)
    .where(tables.mark.c.gateway == bindparam("of"), tables.mark.c.epoch == bindparam("in_epoch"))
    .values({name: bindparam(f"new_{name}") for name in ("upto", "have", "rejected", "changed_ms")})
)


def move_marks(
    connection: Connection, touched: dict[MarkKey, Touched], marks: dict[MarkKey, _Mark], at_ms: int
) -> list[tuple[GatewayTopics, Watermark]]:
    """Advance the locked marks over what is now held; return the watermarks to send once this is committed."""
    moves = []
    watermarks = []
    for (gateway, epoch), entry in touched.items():
        old_upto, old_have, old_rejected = marks[gateway, epoch]
        upto, have = advance(old_upto, old_have, entry.seqs)
        news = [item for item in entry.rejected if item not in old_rejected]
        rejected = (old_rejected + news)[-_REJECTED_SHOWN:]
        watermarks.append((entry.topics, Watermark(epoch, upto, have[:_RANGES_SENT], rejected)))
        if (upto, have, rejected) != (old_upto, old_have, old_rejected):
            move = {"of": gateway, "in_epoch": epoch, "new_upto": upto, "new_changed_ms": at_ms}
            move["new_have"] = msgspec.json.encode(have).decode()
            move["new_rejected"] = msgspec.json.encode(rejected).decode()
            moves.append(move)
    if moves:
        connection.execute(_MOVE_MARK, moves)
    return watermarks


def stored_watermarks(connection: Connection, gateway: int | None = None) -> list[tuple[GatewayTopics, Watermark]]:
    """Return the stored watermark of every gateway's newest epoch, or of one gateway.

    The newest epoch is the one of the last birth; a gateway that never said one gets the mark that moved last.
    """
    table, owner = tables.mark, tables.gateway
    wanted = (
        select(owner.c.site, owner.c.name, table.c.epoch, table.c.upto, table.c.have, table.c.rejected)
        .join_from(table, owner, owner.c.id == table.c.gateway)
        .order_by((table.c.epoch == owner.c.epoch).desc(), table.c.changed_ms.desc())
    )
    if gateway is not None:
        wanted = wanted.where(owner.c.id == gateway)
    newest: dict[GatewayTopics, Watermark] = {}
    for row in connection.execute(wanted):
        have = _decode_ranges(row.have)[:_RANGES_SENT]
        rejected = _decode_rejected(row.rejected)
        newest.setdefault(GatewayTopics(row.site, row.name), Watermark(row.epoch, row.upto, have, rejected))
    return list(newest.items())


def skip_lost(connection: Connection, gateway: int, epoch: str, before: int, at_ms: int) -> tuple[int, int] | None:
    """Move a mark over events below `before` that its gateway no longer has; return their range, None without any."""
    key = (gateway, epoch)
    marks = lock_marks(connection, [key], at_ms)
    upto, have, _ = marks[key]
    if before <= upto + 1:
        return None
    coverage = Coverage(upto, have)
    coverage.add(1, before - 1)
    values = {"upto": coverage.upto, "have": msgspec.json.encode(coverage.have).decode(), "changed_ms": at_ms}
    table = tables.mark
    connection.execute(update(table).where(table.c.gateway == gateway, table.c.epoch == epoch).values(values))
    return upto + 1, before - 1


def _decode_ranges(text: str) -> list[Range]:
    return msgspec.json.decode(text, type=list[Range])


def _decode_rejected(text: str) -> list[Rejected]:
    return msgspec.json.decode(text, type=list[Rejected])
