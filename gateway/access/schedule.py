"""Weekly schedules and holidays, in the site's local time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = time(0, 0)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of some weekdays: from `start` (included) to `end` (excluded); `end` 00:00 means the end of the day.

    Attributes:
        days: 0 = Monday .. 6 = Sunday.
    """

    days: frozenset[int]
    start: time
    end: time

    def __post_init__(self) -> None:
        if self.end != MIDNIGHT and self.end <= self.start:
            raise ValueError("A window ends after it starts; split one that passes midnight in two.")

    def holds(self, local: datetime) -> bool:
        clock = local.time()
        return local.weekday() in self.days and self.start <= clock and (self.end == MIDNIGHT or clock < self.end)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a rule applies.

    Attributes:
        windows: no window at all means always.
        on_holidays: whether it also applies on the calendar's holidays.
    """

    name: str
    windows: tuple[Window, ...] = ()
    on_holidays: bool = False


@dataclass(frozen=True, slots=True)
class Calendar:
    """The days on which schedules without `on_holidays` do not apply; each range is first day, last day."""

    holidays: tuple[tuple[date, date], ...] = ()

    def is_holiday(self, day: date) -> bool:
        return any(first <= day <= last for first, last in self.holidays)


ALWAYS = Schedule("always", on_holidays=True)


def applies(schedule: Schedule, calendar: Calendar, local: datetime) -> bool:
    """Return whether a schedule applies at a local time of the site.

    Times are compared as the wall clock shows them: an hour that a clock change repeats counts twice, one that it skips
    never comes.
    """
    if not schedule.on_holidays and calendar.is_holiday(local.date()):
        return False
    return not schedule.windows or any(window.holds(local) for window in schedule.windows)


def parse_window(text: str) -> Window:
    """Read a window such as `mon-fri 07:30-18:00` or `sat,sun 09:00-12:00`.

    Raises:
        ValueError: the text is not of that form; the message says which part.
    """
    days_text, _, times_text = text.strip().lower().partition(" ")
    days: set[int] = set()
    for part in days_text.split(","):
        first, _, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise ValueError(f"{part!r} is not a day or range of days; write mon, tue, wed, thu, fri, sat or sun.")
        low, high = _DAYS.index(first), _DAYS.index(last or first)
        if high < low:
            raise ValueError(f"{part!r} runs backwards; write it as two ranges.")
        days.update(range(low, high + 1))
    start_text, dash, end_text = times_text.strip().partition("-")
    if not dash:
        raise ValueError(f"{text!r} lacks a time range such as 07:30-18:00.")
    end = MIDNIGHT if end_text == "24:00" else time.fromisoformat(end_text)
    return Window(frozenset(days), time.fromisoformat(start_text), end)


def format_window(window: Window) -> str:
    """Write a window so that parse_window reads it back."""
    days = ",".join(_DAYS[day] for day in sorted(window.days))
    end = "24:00" if window.end == MIDNIGHT else window.end.isoformat("minutes")
    return f"{days} {window.start.isoformat('minutes')}-{end}"
