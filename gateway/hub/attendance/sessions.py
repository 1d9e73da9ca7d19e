"""The sessions of one day, as moments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from gateway.access.schedule import Calendar
from gateway.config import RegisterSettings
from gateway.hub.store.times import to_ms
from gateway.hub.work.times import day_bounds, local_moment

_NO_HOLIDAYS = Calendar()


@dataclass(frozen=True, slots=True)
class Session:
    """A register of one day, in milliseconds since 1970; each time belongs to what begins there.

    Attributes:
        begins_ms: from here on a movement belongs to this session: midnight, or the end of the one before.
    """

    name: str
    begins_ms: int
    starts_ms: int
    closes_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class SchoolDay:
    """One day of one year group.

    Attributes:
        begins_ms, ends_ms: local midnight and the next one.
    """

    begins_ms: int
    ends_ms: int
    sessions: tuple[Session, ...]


def school_day(
    register: RegisterSettings,
    day: date,
    zone: ZoneInfo,
    year: str | None = None,
    calendar: Calendar = _NO_HOLIDAYS,
) -> SchoolDay:
    """Return the sessions of a day for one year group, none on a holiday."""
    found = [
        item
        for item in register.sessions
        if not calendar.is_holiday(day) and day.weekday() in item.days and (not item.years or year in item.years)
    ]
    midnight_ms, ends_ms = (to_ms(moment) for moment in day_bounds(day, zone))
    begins_ms = midnight_ms
    sessions = []
    for item in sorted(found, key=lambda item: item.starts):
        starts, closes, ends = (to_ms(local_moment(day, at, zone)) for at in (item.starts, item.closes, item.ends))
        sessions.append(Session(item.name, begins_ms, starts, closes, ends))
        begins_ms = ends
    return SchoolDay(midnight_ms, ends_ms, tuple(sessions))
