"""Corrects the times of events stamped by an unset clock, from the clock records of the same boot.

A `clock` event (edge.clock) maps a machine's seconds since boot to true time. The boot number of an event counts starts
of the journal; several of them can fall into one boot of the machine, which the records join by its boot id. A boot
that never heard a time server keeps its order and gets bounds from its neighbours. Pure; used by hub and gateway.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from gateway.access.event import Event

# Crystals of small boards are off by up to 50 parts in a million and drift with warmth.
DRIFT = 100e-6
NTP_ERROR_MS = 1000

How = Literal["set", "repaired", "bounded", "unknown"]


@dataclass(frozen=True, slots=True)
class ClockRecord:
    """One `clock` event: at `up` seconds since the machine's boot the time was `wall`.

    Attributes:
        synchronised: False for the record of a start whose clock nobody had set; it only joins boot and boot id.
    """

    boot: int
    boot_id: str
    up: float
    wall: datetime
    error_ms: int
    synchronised: bool


# With an error of more than a day the time of day is unknown.
_SURE_OF_THE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class TrueTime:
    """When an event happened.

    Attributes:
        error_ms: it happened within this of `at`, None when nothing bounds it.
        how: `set` (the clock was right), `repaired` (by a record), `bounded` (by neighbours), `unknown` (as stamped).
    """

    at: datetime
    error_ms: int | None
    how: How

    def may_cross(self, boundary: datetime) -> bool:
        """Return whether the event may fall on either side of a boundary, such as the end of registration."""
        return self.error_ms is None or abs(self.at - boundary) <= timedelta(milliseconds=self.error_ms)


def near_boundaries(found: TrueTime, boundaries: Iterable[time], zone: zoneinfo.ZoneInfo) -> list[time]:
    """Return the times of day that an event may fall on either side of, such as the times at which registers close.

    An event with a set clock falls where its stamp says. One uncertain by a day or more is near every boundary.

    Args:
        boundaries: local times of every day.
    """
    if found.how == "set":
        return []
    error = None if found.error_ms is None else timedelta(milliseconds=found.error_ms)
    if error is None or error >= _SURE_OF_THE_DAY:
        return list(boundaries)
    first, last = ((found.at + away).astimezone(zone).date() for away in (-error, error))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [clock for clock in boundaries if any(found.may_cross(_local(day, clock, zone)) for day in days)]


def _local(day: date, clock: time, zone: zoneinfo.ZoneInfo) -> datetime:
    # UTC, because Python compares two times of one zone by what the clocks say, across a change of the clocks too.
    return datetime.combine(day, clock, zone).astimezone(UTC)


def read_clock_record(event: Event) -> ClockRecord | None:
    """Read a `clock` event, None for any other and for one whose content is not of the known form."""
    data = event.data
    if event.kind != "clock" or not isinstance(data, dict):
        return None
    boot_id, up, wall, error_ms = (data.get(name) for name in ("boot_id", "up", "wall", "error_ms"))
    if not isinstance(boot_id, str) or type(up) not in {int, float} or not isinstance(wall, str):
        return None
    try:
        moment = datetime.fromisoformat(wall)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    error = error_ms if type(error_ms) is int and error_ms >= 0 else NTP_ERROR_MS
    return ClockRecord(event.boot, boot_id, float(up or 0), moment, error, data.get("synchronised", True) is True)


def stamped_time(event: Event) -> datetime:
    """Return the time that the event carries, as UTC; 1970 when the text is no time."""
    try:
        moment = datetime.fromisoformat(event.at)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Timeline:
    """The clock records of one gateway and epoch; add them in any order and at any time."""

    def __init__(self, records: Iterable[ClockRecord] = ()) -> None:
        self._machine_boots: dict[int, str] = {}
        self._records: dict[str, list[ClockRecord]] = {}
        for record in records:
            self.add(record)

    def add(self, record: ClockRecord) -> None:
        """Add one record; a repeated one changes nothing."""
        machine_boot = record.boot_id or f"start {record.boot}"
        self._machine_boots[record.boot] = machine_boot
        known = self._records.setdefault(machine_boot, [])
        if record.synchronised and record not in known:
            known.append(record)
            known.sort(key=lambda item: item.up)

    def repairs(self, boot: int) -> bool:
        """Return whether events of a boot number can be corrected now."""
        return bool(self._records.get(self._machine_boots.get(boot, "")))

    def true_time(self, event: Event, *, earliest: datetime | None = None, latest: datetime | None = None) -> TrueTime:
        """Return when an event happened.

        Args:
            earliest: a time that is known to be before the event, such as that of the last event of the boot before.
            latest: a time that is known to be after it, such as that of the first trusted event after it.
        """
        stamped = stamped_time(event)
        records = self._records.get(self._machine_boots.get(event.boot, ""), [])
        if event.clock == "ntp":
            before = [record for record in records if record.up <= event.up]
            return TrueTime(stamped, before[-1].error_ms if before else NTP_ERROR_MS, "set")
        if records:
            # A stamp of the unset clock precedes its first setting; the nearest record after it has drifted least.
            record = next((item for item in records if item.up >= event.up), records[-1])
            away_seconds = record.up - event.up
            error_ms = record.error_ms + round(abs(away_seconds) * DRIFT * 1000)
            return TrueTime(record.wall - timedelta(seconds=away_seconds), error_ms, "repaired")
        return _bounded(stamped, earliest, latest)


def _bounded(stamped: datetime, earliest: datetime | None, latest: datetime | None) -> TrueTime:
    at = stamped
    if earliest is not None:
        at = max(at, earliest)
    if latest is not None:
        at = min(at, latest)
    if earliest is None or latest is None:
        return TrueTime(at, None, "unknown" if earliest is None and latest is None else "bounded")
    farthest = max(at - earliest, latest - at, timedelta())
    return TrueTime(at, -(-farthest // timedelta(milliseconds=1)), "bounded")
