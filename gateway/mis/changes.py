"""Reading only what changed: the position of a list, and what a service may do with the question; pure.

A position is the newest change that was seen, minus ten minutes: by the service's own dates, never by our clock, which
may be ahead of them. What lies in those ten minutes is read twice, and reading it twice changes nothing.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

OVERLAP = timedelta(minutes=10)
# No change can be so late: whoever sends one when only such changes are asked for does not look at the question.
NEVER = datetime(2999, 1, 1, tzinfo=UTC)
# A row that is older than this was not asked for. Less is left to the time zones of the service.
_TOO_OLD = timedelta(days=1)
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,6})\d*)?\s*(Z|UTC|GMT|[+-]\d\d:?\d\d)?(.*)", re.ASCII
)
# The zone in which a local time is earliest: the worst that an unknown zone can be.
_EARLIEST = timezone(timedelta(hours=14))
# What says that a service does not know the question, rather than that something is wrong with it.
REFUSALS = frozenset({400, 403, 404, 405, 422, 501})


class WholeOnly(Exception):
    """The service does not tell the changes of a list; the text is a sentence that says why."""


def read_instant(value: Any) -> datetime | None:
    """Read a time as services write it, None for what is none; a time in an unknown zone is read as early as it can be.

    `2026-11-20T08:00:00.000Z`, the same with an offset or the name of a zone, and `{"date": ..., "timezone": ...}`.
    """
    zone: tzinfo = UTC
    if isinstance(value, Mapping):
        zone, value = _zone(value.get("timezone")), value.get("date")
    found = _DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    moment, fraction, offset, name = found.groups()
    try:
        at = datetime.fromisoformat(moment) + timedelta(microseconds=int((fraction or "").ljust(6, "0")))
        if offset and offset[0] in "+-":
            at = at.replace(tzinfo=datetime.strptime(offset.replace(":", ""), "%z").tzinfo)
        elif name:
            at = at.replace(tzinfo=_EARLIEST)
        return at.replace(tzinfo=at.tzinfo or zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _zone(name: Any) -> tzinfo:
    if not name or name == "UTC":
        return UTC
    with contextlib.suppress(Exception):
        return ZoneInfo(str(name))
    return _EARLIEST


def written(at: datetime) -> str:
    """Return a time as positions and questions have it, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_http_date(text: str) -> datetime | None:
    """Read the Date header of an answer, None for what is none."""
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass(slots=True)
class Newest:
    """The newest change that a read of a list has seen.

    Attributes:
        begun: when the service says that it sent the first page. What it dates later may have changed behind our back,
            on a page that was read already, or is a date by mistake; None where it does not say.
        is_dated: every row so far had a date; without one, its change would never be told.
    """

    at: datetime | None = None
    begun: datetime | None = None
    is_dated: bool = True

    def see(self, changed: datetime | None) -> None:
        if changed is None:
            self.is_dated = False
        elif self.at is None or changed > self.at:
            self.at = changed

    def position(self, before: datetime | None = None) -> str | None:
        """Return where the next read begins, not before this one did; None where it has to be a whole one."""
        if not self.is_dated or (self.at is None and before is None):
            return None
        found = [at for at in (self.at, self.begun) if at is not None]
        after = min(found) - OVERLAP if self.at is not None else before
        assert after is not None
        return written(max(after, before) if before else after)


def refuse_unasked(changed: datetime | None, since: datetime) -> None:
    """Refuse a row that is no answer to the question what changed since then.

    Raises:
        WholeOnly: it is older, or has no date at all.
    """
    if changed is None:
        raise WholeOnly("The source does not date its changes, so it is read whole.")
    if changed < since - _TOO_OLD:
        raise WholeOnly("The source answers a question for changes with everything, so it is read whole.")
