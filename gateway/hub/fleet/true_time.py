"""Corrects the times of events that were stamped by a clock that was not set.

A gateway's clock records come after the events they correct, so the repair follows the ingest and runs again whenever a
record or a neighbour arrives. The event's own bytes never change; only the time shown for it does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from gateway.access.event import decode_event
from gateway.access.timeline import Timeline, TrueTime, read_clock_record
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.store.revisions import note_revised
from gateway.hub.store.times import from_ms, to_ms

PAGE_EVENTS = 2000
_TRUSTED = ("set", "repaired")

_MOVE = (
    update(tables.event)
    .where(tables.event.c.gateway == bindparam("of"))
    .where(tables.event.c.epoch == bindparam("in_epoch"))
    .where(tables.event.c.seq == bindparam("number"))
    .values({"at_ms": bindparam("new_at"), "at_how": bindparam("how"), "at_error_ms": bindparam("error")})
)


@dataclass(slots=True)
class TimeRepair:
    """Repairs every journal that has new events since the last run."""

    store: Store
    _states: dict[tuple[int, str], tuple[int, ...]] = field(default_factory=dict)

    def run(self) -> int:
        """Correct the times that can be corrected now; return how many were corrected or bounded."""
        event = tables.event
        open_events = event.c.at_how.in_(("unknown", "bounded"))
        moved = 0
        with self.store.read() as connection:
            query = select(event.c.gateway, event.c.epoch, func.count(), func.max(event.c.seq))
            journals = connection.execute(query.where(open_events).group_by(event.c.gateway, event.c.epoch)).all()
        for gateway, epoch, count, newest in journals:
            with self.store.read() as connection:
                timeline, records = _load_timeline(connection, gateway, epoch)
                state = (count, newest, records, _watermark(connection, gateway, epoch))
            if self._states.get((gateway, epoch)) == state:
                continue
            with self.store.write() as connection:
                moved += _repair(connection, gateway, epoch, timeline)
            self._states[gateway, epoch] = state
        return moved


def _load_timeline(connection: Connection, gateway: int, epoch: str) -> tuple[Timeline, int]:
    event = tables.event
    mine = (event.c.gateway == gateway, event.c.epoch == epoch, event.c.kind == "clock")
    raws = connection.scalars(select(event.c.raw).where(*mine)).all()
    records = (read_clock_record(decode_event(bytes(raw))) for raw in raws)
    return Timeline(record for record in records if record is not None), len(raws)


def _watermark(connection: Connection, gateway: int, epoch: str) -> int:
    mark = tables.mark
    return connection.scalar(select(mark.c.upto).where(mark.c.gateway == gateway, mark.c.epoch == epoch)) or 0


def _repair(connection: Connection, gateway: int, epoch: str, timeline: Timeline) -> int:
    event = tables.event
    mine = (event.c.gateway == gateway, event.c.epoch == epoch, event.c.at_how.in_(("unknown", "bounded")))
    after, moved = 0, 0
    while True:
        query = select(event.c.seq, event.c.raw, event.c.at_ms, event.c.at_how, event.c.at_error_ms)
        rows = connection.execute(
            query.where(*mine, event.c.seq > after).order_by(event.c.seq).limit(PAGE_EVENTS)
        ).all()
        if not rows:
            return moved
        after = rows[-1].seq
        neighbours = _Neighbours(connection, gateway, epoch)
        moves = []
        for row in rows:
            stored = decode_event(bytes(row.raw))
            earliest, latest = (None, None) if timeline.repairs(stored.boot) else neighbours.around(row.seq)
            found = timeline.true_time(stored, earliest=earliest, latest=latest)
            if (to_ms(found.at), found.how, found.error_ms) != (row.at_ms, row.at_how, row.at_error_ms):
                moves.append({"of": gateway, "in_epoch": epoch, "number": row.seq, **_columns(found)})
        if moves:
            connection.execute(_MOVE, moves)
            note_revised(connection, [(gateway, epoch, move["number"]) for move in moves])
        moved += len(moves)


def _columns(found: TrueTime) -> dict[str, Any]:
    return {"new_at": to_ms(found.at), "how": found.how, "error": found.error_ms}


class _Neighbours:
    """Nearest trusted events on either side of a number; looked up once per gap."""

    def __init__(self, connection: Connection, gateway: int, epoch: str) -> None:
        self._connection = connection
        event = tables.event
        self._mine = (event.c.gateway == gateway, event.c.epoch == epoch, event.c.at_how.in_(_TRUSTED))
        self._between: tuple[int, float] = (0, 0)
        self._times: tuple[datetime | None, datetime | None] = (None, None)

    def around(self, seq: int) -> tuple[datetime | None, datetime | None]:
        first, last = self._between
        if not first < seq < last:
            event = tables.event
            query = select(event.c.seq, event.c.at_ms).where(*self._mine)
            before = self._connection.execute(
                query.where(event.c.seq < seq).order_by(event.c.seq.desc()).limit(1)
            ).one_or_none()
            after = self._connection.execute(
                query.where(event.c.seq > seq).order_by(event.c.seq).limit(1)
            ).one_or_none()
            self._between = (before.seq if before else 0, after.seq if after else float("inf"))
            self._times = (from_ms(before.at_ms) if before else None, from_ms(after.at_ms) if after else None)
        return self._times
