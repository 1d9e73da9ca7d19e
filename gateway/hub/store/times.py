"""Converts between datetimes and the tables' milliseconds since 1970."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int, zone: zoneinfo.ZoneInfo | None = None) -> datetime:
    return (_EPOCH + milliseconds * _MILLISECOND).astimezone(zone or UTC)
