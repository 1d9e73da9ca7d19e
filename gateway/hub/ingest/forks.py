"""Checks that what a gateway sends continues the stored events, by bytes and not by numbers.

Only for gateways that wait for the hub's welcome (`strict` marks): an older one may have broken its own chain and does
not understand a request to begin a new epoch.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec
from sqlalchemy import Connection

from gateway.access.event import Event
from gateway.hub.ingest.links import held_bytes, link_of
from gateway.hub.ingest.marks import Mark, MarkKey
from gateway.hub.ingest.parse import Fault, Reading, of_known


class _What(msgspec.Struct):
    what: str = ""


class _Lost(msgspec.Struct):
    system: _What | None = None


_LOST = msgspec.json.Decoder(_Lost)


def is_lost(raw: bytes) -> bool:
    """Return whether these bytes replace an event that the card can no longer read."""
    if b"event_lost" not in raw:
        return False
    try:
        system = _LOST.decode(raw).system
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return system is not None and system.what == "event_lost"


def refuse_forks(
    connection: Connection, readings: list[Reading], known: dict[tuple[str, str], int], marks: dict[MarkKey, Mark]
) -> None:
    """Turn events that do not continue the stored chain into faults that cover no number."""
    came: dict[MarkKey, list[tuple[int, Event, bytes, Reading]]] = defaultdict(list)
    beside: dict[MarkKey, dict[int, bytes]] = defaultdict(dict)
    for gateway, reading in of_known(readings, known):
        for event, _, raw in reading.events:
            if marks[gateway, event.epoch].strict:
                came[gateway, event.epoch].append((event.seq, event, raw, reading))
        for fault in reading.faults:
            if fault.epoch is not None and fault.seq is not None and fault.covers:
                beside[gateway, fault.epoch].setdefault(fault.seq, fault.payload)
    for key, items in came.items():
        refused = _forked(connection, key, marks[key], items, beside[key])
        if refused:
            marks[key].fork_at(min(refused))
            _set_aside(items, refused, key[1])


def _forked(
    connection: Connection,
    key: MarkKey,
    mark: Mark,
    items: list[tuple[int, Event, bytes, Reading]],
    beside: dict[int, bytes],
) -> set[int]:
    items.sort(key=lambda item: item[0])
    fresh = {seq: raw for seq, _, raw, _ in items if not mark.holds(seq)}
    ends = {seq - 1 for seq in fresh if mark.holds(seq - 1) and (seq - 1 != mark.upto or not mark.link)}
    held = held_bytes(connection, *key, ends) if ends else {}
    refused: set[int] = set()
    for seq, event, _, _ in items:
        if seq not in fresh or seq == 1:
            continue
        if seq - 1 in refused:
            refused.add(seq)
            continue
        before = held.get(seq - 1) or fresh.get(seq - 1) or beside.get(seq - 1)
        link = mark.link if seq - 1 == mark.upto and mark.link else link_of(before) if before is not None else ""
        if not link or event.prev == link:
            continue
        if before is None:
            before = held_bytes(connection, *key, [seq - 1]).get(seq - 1)
        # After an event that its card lost, the chain continues from the lost bytes.
        if before is None or not is_lost(before):
            refused.add(seq)
    return refused


def _set_aside(items: list[tuple[int, Event, bytes, Reading]], refused: set[int], epoch: str) -> None:
    for seq, event, raw, reading in items:
        if seq in refused:
            why = f"Event {seq} of epoch {epoch} does not follow the event before it that is stored here."
            reading.faults.append(Fault(raw, why, epoch, seq, covers=False))
            reading.events = [item for item in reading.events if item[0] is not event]
