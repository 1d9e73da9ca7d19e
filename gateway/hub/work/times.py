"""When a job runs next: pure, in the local time of its site, right across both changes of the clock.

A local time that a clock change skips is the first moment after the gap; one that it repeats is the first of
the two. A day that a zone leaves out has no runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
MINUTE_MS = 60_000
BACK_OFF_MINUTES = (1, 5, 15, 60)
_ALL_DAYS = frozenset(range(7))
# A time on one weekday only, skipped in its first week by a clock change of a whole day.
_MOST_DAYS = 16


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of a job; of several kinds the earliest counts, without any it never runs by itself.

    Attributes:
        spread_by: what tells apart jobs that share a window, so that they do not all run at its beginning.
        times: local times of day.
        window: local times between which it runs once a day, at a moment of its own; one that ends before it begins
            ends on the next day.
        every_minutes: the pause after its last start.
        days: the weekdays on which it runs, 0 for Monday; those on which a window begins.
    """

    spread_by: str = ""
    times: tuple[time, ...] = ()
    window: tuple[time, time] | None = None
    every_minutes: int | None = None
    days: frozenset[int] = _ALL_DAYS


def back_off_ms(tries: int) -> int:
    """Return how long to wait after a failure, by how many there were before it; it stays at the longest."""
    return BACK_OFF_MINUTES[min(tries, len(BACK_OFF_MINUTES) - 1)] * MINUTE_MS


def next_run(timing: Timing, after: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first moment after `after` at which the job runs, in UTC; None when it never does."""
    found = [moment for moment in (_by_pause(timing, after, zone), _by_day(timing, after, zone)) if moment is not None]
    return min(found, default=None)


def local_moment(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the moment of a local time in UTC."""
    early = datetime.combine(day, at, zone).astimezone(UTC)
    if early.astimezone(zone).replace(tzinfo=None) == datetime.combine(day, at):
        return early
    # Skipped: read with the offset before the gap it lies after it, read with the one behind the gap it lies before it.
    late = early
    early = datetime.combine(day, at.replace(fold=1), zone).astimezone(UTC)
    offset = late.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle <= early:
            break
        if middle.astimezone(zone).utcoffset() == offset:
            late = middle
        else:
            early = middle
    return late


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return local midnight and the next one in UTC."""
    return local_moment(day, time(), zone), local_moment(day + DAY, time(), zone)


def _by_pause(timing: Timing, after: datetime, zone: ZoneInfo) -> datetime | None:
    if timing.every_minutes is None or not timing.days:
        return None
    moment = after + timedelta(minutes=timing.every_minutes)
    day = moment.astimezone(zone).date()
    for _ in range(_MOST_DAYS):
        if day.weekday() in timing.days:
            return max(moment, local_moment(day, time(), zone))
        day += DAY
    return None


def _by_day(timing: Timing, after: datetime, zone: ZoneInfo) -> datetime | None:
    first = after.astimezone(zone).date() - DAY
    for number in range(_MOST_DAYS):
        day = first + number * DAY
        if day.weekday() in timing.days and _exists(day, zone):
            found = [moment for moment in _moments(timing, day, zone) if moment > after]
            if found:
                return min(found)
    return None


def _exists(day: date, zone: ZoneInfo) -> bool:
    # Zones that moved over the date line left out a whole day.
    return local_moment(day, time(12), zone).astimezone(zone).date() == day


def _moments(timing: Timing, day: date, zone: ZoneInfo) -> Iterator[datetime]:
    for at in timing.times:
        yield local_moment(day, at, zone)
    if timing.window is not None:
        begins, ends = timing.window
        start = local_moment(day, begins, zone)
        seconds = int((local_moment(day if ends > begins else day + DAY, ends, zone) - start).total_seconds())
        yield start + timedelta(seconds=_share(f"{timing.spread_by}/{day}") % max(1, seconds))


def _share(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
