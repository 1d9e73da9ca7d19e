"""Times as services write them, and the position after a read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mis.changes import OVERLAP, Newest, read_http_date, read_instant, written

EIGHT = datetime(2026, 7, 20, 8, tzinfo=UTC)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # its bounds


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2026-07-20T08:00:00.000Z", EIGHT),
        ("2026-07-20T08:00:00Z", EIGHT),
        ("2026-07-20 08:00:00", EIGHT),
        ("2026-07-20T10:00:00+02:00", EIGHT),
        ("2026-07-20T10:00:00.5+0200", EIGHT + timedelta(milliseconds=500)),
        ("2026-07-20T22:00:00.000GST", EIGHT),
        ({"date": "2026-07-20 08:00:00.000000", "timezone_type": 3, "timezone": "UTC"}, EIGHT),
        ({"date": "2026-07-20 09:00:00.000000", "timezone_type": 3, "timezone": "Europe/London"}, EIGHT),
        ({"date": "2026-07-20 22:00:00.000000", "timezone_type": 2, "timezone": "XYZ"}, EIGHT),
        ({"date": "2026-07-20 22:00:00", "timezone": ["UTC"]}, EIGHT),
        ({"date": "2026-07-20 22:00:00", "timezone": "../../etc/passwd"}, EIGHT),
        ({"date": None}, None),
        ("2026-07-20", None),
        ("2026-13-40T08:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("", None),
        (None, None),
        (1784534400, None),
    ],
)
def test_a_time_is_read_as_services_write_it(value: Any, at: datetime | None) -> None:
    assert read_instant(value) == at


@given(TIMES)
def test_a_position_is_read_back_to_the_millisecond_and_never_later(at: datetime) -> None:
    again = read_instant(written(at))
    assert again is not None
    assert timedelta(0) <= at - again < timedelta(milliseconds=1)


@given(st.lists(TIMES, min_size=1), st.none() | TIMES, st.none() | TIMES)
def test_a_position_is_ten_minutes_before_the_newest_change_and_never_falls(
    changes: list[datetime], begun: datetime | None, before: datetime | None
) -> None:
    newest = Newest(begun=begun)
    for at in changes:
        newest.see(at)
    position = read_instant(newest.position(before))
    assert position is not None
    assert position <= max(max(changes) - OVERLAP, before or position)
    if begun:
        assert position <= max(begun - OVERLAP, before or position)
    if before:
        assert written(position) >= written(before)


@pytest.mark.parametrize("text", ["", "yesterday", "Mon, 99 Jul 2026 08:00:00 GMT"])
def test_an_answer_without_a_date_is_one(text: str) -> None:
    assert read_http_date(text) is None
