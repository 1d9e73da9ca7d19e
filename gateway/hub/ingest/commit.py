"""The one transaction of the ingest: a batch of messages in, rows and watermarks out.

Law of this file: `(gateway, epoch, seq)` is counted once. Events are inserted or already there; what cannot be an event
is quarantined with its bytes; the watermark moves in the same transaction, over numbers that are now held. An event
with other bytes than those held under its number, or that does not follow from the one before, is quarantined and moves
no watermark. Only when `commit` has returned may a message be acknowledged and a watermark be sent.

Over 400 lines because the transaction reads as one page, in the order in which its steps lock.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import UNSET
from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import DBAPIError

from gateway.access.event import Event
from gateway.access.suspicion import read_suspicion
from gateway.errors import StoreUnavailable
from gateway.hub.ingest.forks import is_lost, refuse_forks
from gateway.hub.ingest.marks import MAX_NEW_EPOCHS, Mark, MarkKey, Touched, lock_marks, move_marks
from gateway.hub.ingest.moved import is_copy, keep_copy, known_elsewhere
from gateway.hub.ingest.parse import Fault, Incoming, Reading, of_known, read_message
from gateway.hub.ingest.quarantine import count_beyond_quota, quarantine, scope_of
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.store.holders import Holders
from gateway.hub.store.rows import EventWriter, insert_if_new
from gateway.link.messages import Rejected, Watermark
from gateway.link.topics import GatewayTopics

log = logging.getLogger(__name__)

# How long events of a revoked gateway may still be accepted.
_ENROLMENT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Fresh:
    """An event that was committed for the first time, for pages that show it live."""

    site: str
    gateway: str
    historical: bool
    event: Event
    person: str | None


@dataclass(slots=True)
class Committed:
    """What one commit did.

    Attributes:
        watermarks: what each gateway may forget now; a gateway's most recent epoch comes last.
        again: events that were already there.
    """

    watermarks: list[tuple[GatewayTopics, Watermark]] = field(default_factory=list)
    fresh: int = 0
    again: int = 0
    quarantined: int = 0
    committed_ms: int = 0
    events: list[Fresh] = field(default_factory=list)

    def add(self, other: Committed) -> None:
        self.watermarks += other.watermarks
        self.events += other.events
        self.fresh += other.fresh
        self.again += other.again
        self.quarantined += other.quarantined
        self.committed_ms = other.committed_ms


class Committer:
    """Commits batches; any number of them may work on one PostgreSQL database at once.

    Args:
        tell: whether to fill `Committed.events`; it costs a little for every event.
    """

    def __init__(self, store: Store, *, tell: bool = False) -> None:
        self._store = store
        self._tell = tell
        self._writer = EventWriter(store)
        self._gateways: dict[tuple[str, str], int] = {}
        self._gateways_at = time.monotonic()

    def commit(self, batch: Sequence[Incoming]) -> Committed:
        """Commit a batch.

        Raises:
            StoreUnavailable: nothing was committed; keep the messages unacknowledged and try again.
        """
        return self._commit([read_message(incoming) for incoming in batch])

    def _commit(self, readings: list[Reading]) -> Committed:
        try:
            with self._store.write() as connection:
                done, known = self._write(connection, readings)
        except StoreUnavailable:
            raise
        except Exception as error:
            # The fault lies in one message: that one is set aside and the others are committed.
            if not isinstance(error, DBAPIError | ValueError | OverflowError):
                log.exception("the ingest met a fault of its own")
            return self._commit_apart(readings, error)
        # Ids from a rolled-back transaction must not be cached, so the cache is updated only here.
        self._gateways.update(known)
        return done

    def _commit_apart(self, readings: list[Reading], error: Exception) -> Committed:
        if len(readings) > 1:
            middle = len(readings) // 2
            done = self._commit(readings[:middle])
            done.add(self._commit(readings[middle:]))
            return done
        (reading,) = readings
        if not reading.events:
            raise StoreUnavailable(f"The hub's database refuses to write ({type(error).__name__}).") from error
        log.error("a message could not be stored (%s); its events are quarantined", type(error).__name__)
        why = f"The hub could not store this event ({type(error).__name__})."
        reading.faults += [Fault(raw, why, event.epoch, event.seq) for event, _, raw in reading.events]
        reading.copies = []
        reading.events = []
        return self._commit([reading])

    def _write(self, connection: Connection, readings: list[Reading]) -> tuple[Committed, dict[tuple[str, str], int]]:
        done = Committed(committed_ms=now_ms())
        known = self._find_gateways(connection, readings)
        marks = lock_marks(connection, _keys(readings, known), done.committed_ms, also=_first_keys(readings, known))
        _refuse_new_epochs(readings, known, marks)
        refuse_forks(connection, readings, known, marks)
        self._write_events(connection, readings, known, marks, done)
        self._write_faults(connection, readings, done)
        touched = _touch(readings, known)
        done.watermarks = move_marks(connection, touched, marks, done.committed_ms)
        _note_gateways(connection, readings, known)
        return done, known

    def _find_gateways(self, connection: Connection, readings: list[Reading]) -> dict[tuple[str, str], int]:
        heard = {(reading.site, reading.gateway) for reading in readings if reading.gateway is not None}
        if time.monotonic() - self._gateways_at > _ENROLMENT_SECONDS:
            # A gateway revoked meanwhile is no longer accepted.
            self._gateways, self._gateways_at = {}, time.monotonic()
        known = {name: self._gateways[name] for name in heard if name in self._gateways}
        for site, name in sorted(heard - known.keys()):
            number = enrolled_gateway(connection, site, name)
            if number is not None:
                known[site, name] = number
        for reading in readings:
            if reading.gateway is not None and (reading.site, reading.gateway) not in known:
                why = f"The gateway {reading.site}/{reading.gateway} is not enrolled at this hub."
                reading.faults = [Fault(reading.incoming.payload, why)]
                reading.events = []
        return known

    def _write_events(
        self,
        connection: Connection,
        readings: list[Reading],
        known: dict[tuple[str, str], int],
        marks: dict[MarkKey, Mark],
        done: Committed,
    ) -> None:
        if not any(reading.events for reading in readings):
            return
        holders = Holders.load(connection, _strangers(readings))
        direct = [
            ((_number(reading, known), event.epoch, event.seq), raw)
            for reading in readings
            for event, _, raw in reading.events
            if event.was is UNSET
        ]
        elsewhere = known_elsewhere(connection, direct)
        for moved in (False, True):
            # Moved events come last, so that their first copies in the same batch are found too.
            rows: list[tuple[Any, ...]] = []
            for reading in readings:
                if not reading.events:
                    continue
                gateway, kept = _number(reading, known), []
                for event, at_ms, raw in reading.events:
                    if (event.was is not UNSET) != moved:
                        kept.append((event, at_ms, raw))
                        continue
                    key = (gateway, event.epoch, event.seq)
                    if is_copy(connection, gateway, event, raw) if moved else key in elsewhere:
                        keep_copy(connection, gateway, event, raw)
                        reading.copies.append((event, raw))
                        done.again += 1
                        continue
                    kept.append((event, at_ms, raw))
                    rows.append(_row(reading, gateway, event, at_ms, raw, holders, done.committed_ms))
                    if self._tell:
                        person = rows[-1][13]
                        done.events.append(
                            Fresh(reading.site, reading.gateway or "", reading.historical, event, person)
                        )
                reading.events = kept
            if rows:
                fresh = self._writer.insert(connection, rows)
                done.fresh += fresh
                done.again += len(rows) - fresh
        if done.again:
            held = self._find_twins(connection, readings, known, marks)
            done.events = [
                item
                for item in done.events
                if held[known[item.site, item.gateway], item.event.epoch][item.event.seq][1] == done.committed_ms
            ]

    def _find_twins(
        self,
        connection: Connection,
        readings: list[Reading],
        known: dict[tuple[str, str], int],
        marks: dict[MarkKey, Mark],
    ) -> dict[MarkKey, dict[int, tuple[bytes, int]]]:
        # A re-sent event has the bytes of its first copy. Other bytes under a used number mean that a journal was
        # rewritten or restored; the first copy stands and the second is kept as evidence.
        sent: dict[MarkKey, list[tuple[Reading, int, bytes]]] = defaultdict(list)
        for reading in readings:
            for event, _, raw in reading.events:
                sent[_number(reading, known), event.epoch].append((reading, event.seq, raw))
        held = {}
        for (gateway, epoch), copies in sent.items():
            first = self._writer.held(connection, gateway, epoch, [seq for _, seq, _ in copies])
            held[gateway, epoch] = first
            for reading, seq, raw in copies:
                if first[seq][0] == raw or is_lost(raw):
                    # If its card has lost the event since, the hub has the better copy.
                    continue
                why = f"Event {seq} of epoch {epoch} is already here with other bytes."
                reading.faults.append(Fault(raw, why, epoch, seq, covers=False))
                marks[gateway, epoch].fork_at(seq)
        return held

    def _write_faults(self, connection: Connection, readings: list[Reading], done: Committed) -> None:
        full: set[str] = set()
        for reading in readings:
            topic = reading.incoming.topic
            scope = scope_of(topic)
            done.quarantined += len(reading.faults)
            kept: list[bool] = []
            while len(kept) < len(reading.faults) and scope not in full:
                kept.append(quarantine(connection, topic, reading.faults[len(kept)], done.committed_ms))
                if not kept[-1]:
                    full.add(scope)
            if rest := reading.faults[len(kept) :]:
                # A flood beyond the quota costs a few statements, however long it is.
                kept += count_beyond_quota(connection, topic, rest, done.committed_ms)
            # Where its bytes are not stored here, its gateway must keep them.
            reading.faults = [
                fault if is_kept else replace(fault, covers=False)
                for fault, is_kept in zip(reading.faults, kept, strict=True)
            ]


def enrolled_gateway(connection: Connection, site: str, name: str) -> int | None:
    """Return the number of an enrolled gateway, None for any other.

    An unknown gateway is added only at a site that trusts every gateway its broker lets in.
    """
    table = tables.gateway
    here = (table.c.site == site, table.c.name == name)
    found = connection.execute(select(table.c.id, table.c.enrolled_ms).where(*here)).one_or_none()
    if found is not None and found.enrolled_ms is not None:
        return int(found.id)
    if not connection.scalar(select(tables.site.c.trust_unenrolled).where(tables.site.c.id == site)):
        return None
    if found is None:
        insert_if_new(connection, table, {"site": site, "name": name})
    return int(connection.execute(select(table.c.id).where(*here)).scalar_one())


def _number(reading: Reading, known: dict[tuple[str, str], int]) -> int:
    assert reading.gateway is not None
    return known[reading.site, reading.gateway]


def _keys(readings: list[Reading], known: dict[tuple[str, str], int]) -> set[MarkKey]:
    keys: set[MarkKey] = set()
    for gateway, reading in of_known(readings, known):
        keys |= {(gateway, event.epoch) for event, _, _ in reading.events}
        keys |= {(gateway, fault.epoch) for fault in reading.faults if fault.epoch and fault.seq is not None}
    return keys


def _first_keys(readings: list[Reading], known: dict[tuple[str, str], int]) -> set[MarkKey]:
    # Locked too, so that an event and its moved copy are never committed by two workers at once.
    return {
        (_number(reading, known), event.was.epoch)
        for reading in readings
        for event, _, _ in reading.events
        if event.was is not UNSET
    }


def _refuse_new_epochs(readings: list[Reading], known: dict[tuple[str, str], int], marks: dict[MarkKey, Mark]) -> None:
    for gateway, reading in of_known(readings, known):
        refused = [item for item in reading.events if (gateway, item[0].epoch) not in marks]
        if refused:
            reading.events = [item for item in reading.events if (gateway, item[0].epoch) in marks]
            why = f"This gateway began more than {MAX_NEW_EPOCHS} journals within a day."
            reading.faults += [Fault(raw, why, event.epoch, event.seq, covers=False) for event, _, raw in refused]
        reading.faults = [
            item if item.epoch is None or (gateway, item.epoch) in marks else replace(item, covers=False)
            for item in reading.faults
        ]


def _touch(readings: list[Reading], known: dict[tuple[str, str], int]) -> dict[MarkKey, Touched]:
    touched: dict[MarkKey, Touched] = {}
    for gateway, reading in of_known(readings, known):
        assert reading.gateway is not None
        topics = GatewayTopics(reading.site, reading.gateway)
        came = [(event, raw) for event, _, raw in reading.events] + reading.copies
        for event, raw in sorted(came, key=lambda item: item[0].seq):
            # Removed and added again, so that the most recent epoch comes last.
            entry = touched.pop((gateway, event.epoch), None) or Touched(topics)
            touched[gateway, event.epoch] = entry
            entry.raws[event.seq] = raw
        for fault in reading.faults:
            if fault.epoch is not None and fault.seq is not None and fault.covers:
                entry = touched.setdefault((gateway, fault.epoch), Touched(topics))
                entry.raws[fault.seq] = fault.payload
                entry.rejected.append(Rejected(fault.seq, fault.why))
    return touched


_OF_GATEWAY = update(tables.gateway).where(tables.gateway.c.id == bindparam("of"))
_NOTE_GATEWAY = _OF_GATEWAY.values({"seen_ms": bindparam("seen")})
_NOTE_LIVE = _OF_GATEWAY.where(
    tables.gateway.c.live_ms.is_(None) | (tables.gateway.c.live_ms < bindparam("live"))
).values({"live_ms": bindparam("live")})


def _note_gateways(connection: Connection, readings: list[Reading], known: dict[tuple[str, str], int]) -> None:
    seen: dict[int, int] = {}
    live: dict[int, int] = {}
    for gateway, reading in of_known(readings, known):
        seen[gateway] = max(seen.get(gateway, 0), reading.incoming.received_ms)
        if not reading.historical and reading.events:
            live[gateway] = max(live.get(gateway, 0), *(at_ms for _, at_ms, _ in reading.events))
    if seen:
        connection.execute(_NOTE_GATEWAY, [{"of": gateway, "seen": at} for gateway, at in sorted(seen.items())])
    if live:
        connection.execute(_NOTE_LIVE, [{"of": gateway, "live": at} for gateway, at in sorted(live.items())])


def _strangers(readings: list[Reading]) -> set[tuple[str, str]]:
    return {
        (reading.site, event.card.key)
        for reading in readings
        for event, _, _ in reading.events
        if event.card and not event.person
    }


def _row(
    reading: Reading, gateway: int, event: Event, at_ms: int, raw: bytes, holders: Holders, committed_ms: int
) -> tuple[Any, ...]:
    card = event.card or None
    person = event.person or None
    matched_ms = None
    if card and not person:
        person = holders.at(reading.site, card.key, at_ms)
        matched_ms = committed_ms if person else None
    reason, tail = event.reason or None, card.tail if card else None
    if event.kind == "reader":
        suspicion = read_suspicion(event)
        reason, tail = (suspicion.sign, suspicion.tail) if suspicion else (None, None)
    return (
        gateway,
        event.epoch,
        event.seq,
        reading.site,
        event.kind,
        at_ms,
        reading.incoming.received_ms,
        committed_ms,
        reading.historical,
        None if event.point is UNSET else event.point,
        None if event.reader is UNSET else event.reader,
        card.key if card else None,
        tail,
        person,
        matched_ms,
        None if event.decision is UNSET else event.decision,
        reason,
        raw,
        "set" if event.clock == "ntp" else "unknown",
        None,
    )
