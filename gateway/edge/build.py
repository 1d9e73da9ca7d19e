"""Builds the parts of a gateway from its settings: points, buses, checkpoints and the relay to the hub."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway.config import BrokerSettings, GatewaySettings, PointSettings, ReaderSettings
from gateway.edge.absent import AbsentJournal, AbsentReader
from gateway.edge.buses import BusThread
from gateway.edge.checkpoints import Checkpoints
from gateway.edge.clock import Clock
from gateway.edge.presence import movements_in
from gateway.edge.relay import Relay
from gateway.edge.startup import StartFaults, find_gateway_key, require_link_files
from gateway.edge.tapline import Point, Seat
from gateway.journal.journal import Journal
from gateway.points.door import Door
from gateway.points.kiosk import Kiosk
from gateway.points.lane import Lane
from gateway.readers.base import DRIVERS, Reader, ReaderEvent
from gateway.roster.store import RosterStore
from gateway.service import Beats

log = logging.getLogger(__name__)

_RESTORE_EVENTS = 20_000


def make_point(item: PointSettings) -> Point:
    """Return the state machine of one point."""
    if item.kind == "door":
        return Door(item.id, item.unlock_seconds, item.held_open_seconds)
    return Lane(item.id) if item.kind == "lane" else Kiosk(item.id)


def make_buses(
    settings: Sequence[ReaderSettings],
    readers: Mapping[str, Reader],
    handle: Callable[[ReaderEvent], None],
    note: Callable[[str, str, str], None],
    beats: Beats,
) -> dict[BusThread, list[Reader]]:
    """Return one thread for each bus, with its readers; a reader that could not be built gets a thread of its own."""
    shared: dict[str, list[Reader]] = {}
    for item in settings:
        reader = readers[item.id]
        bus = f"absent {item.id}" if isinstance(reader, AbsentReader) else DRIVERS[item.driver].bus(item.port)
        shared.setdefault(bus, []).append(reader)
    return {BusThread(name, group, handle, note, beats): group for name, group in shared.items()}


def make_checkpoints(
    settings: GatewaySettings, journal: Journal | AbsentJournal, clock: Clock, faults: StartFaults
) -> Checkpoints | None:
    """Return the writer of signed checkpoints; None without a journal or without the gateway's key."""
    if not isinstance(journal, Journal):
        return None
    key = find_gateway_key(settings, faults)
    return Checkpoints(journal, clock, settings.id, key, time.monotonic) if key else None


def make_relay(
    settings: GatewaySettings,
    hub: BrokerSettings,
    journal: Journal,
    roster: RosterStore,
    clock: Clock,
    checkpoints: Checkpoints | None,
) -> Relay:
    """Return the relay to the hub, not yet started.

    Raises:
        FatalError: a file of the link is missing or cannot be read; the message names it.
    """
    require_link_files(hub)
    return Relay(
        journal,
        hub,
        gateway_id=settings.id,
        site=settings.site,
        public_key=checkpoints.public_key if checkpoints else "",
        offline_after_seconds=settings.offline_after_seconds,
        trust=roster.trust,
        roster_version=lambda: roster.current.version if roster.current else None,
        now=lambda: clock.now() if clock.quality != "free" else None,
    )


def restore_kiosks(seats: Mapping[str, Seat], journal: Journal | AbsentJournal, now: datetime, zone: ZoneInfo) -> None:
    """Restore who is signed in at the kiosks from today's movements in the journal."""
    kiosks = {seat.point.name: seat.point for seat in seats.values() if isinstance(seat.point, Kiosk)}
    if not kiosks:
        return
    today = now.astimezone(zone).date()
    recorded = journal.after(max(0, journal.head - _RESTORE_EVENTS), _RESTORE_EVENTS)
    for event, person, movement in movements_in(recorded):
        local = datetime.fromisoformat(event.at).astimezone(zone)
        if local.date() == today and isinstance(event.point, str) and event.point in kiosks:
            kiosks[event.point].restore(person, movement)
