from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.event import Event
from gateway.access.timeline import (
    ClockRecord,
    How,
    Timeline,
    TrueTime,
    near_boundaries,
    read_clock_record,
    stamped_time,
)

MORNING = datetime(2026, 11, 23, 8, 40, tzinfo=UTC)


def event(up: float, *, boot: int = 17, at: str = "1970-01-01T00:00:10.000Z", clock: Any = "free") -> Event:
    return Event(gw="gw-canteen", boot=boot, at=at, clock=clock, up=up, kind="tap")


def record(
    up: float, wall: datetime, *, boot: int = 17, boot_id: str = "b1", error_ms: int = 10, **options: Any
) -> ClockRecord:
    return ClockRecord(boot, boot_id, up, wall, error_ms, options.get("synchronised", True))


def test_taps_before_the_time_server_answered_are_repaired_from_the_seconds_since_boot() -> None:
    timeline = Timeline([record(600.0, MORNING)])
    assert timeline.true_time(event(540.0)) == TrueTime(MORNING - timedelta(seconds=60), 10 + 6, "repaired")


def test_a_stamp_of_a_set_clock_stands_as_it_is() -> None:
    timeline = Timeline([record(600.0, MORNING, error_ms=25)])
    stamped = event(700.0, at="2026-11-23T08:41:40.000Z", clock="ntp")
    assert timeline.true_time(stamped) == TrueTime(MORNING + timedelta(seconds=100), 25, "set")


def test_a_restart_of_the_daemon_in_the_same_boot_of_the_machine_is_repaired_too() -> None:
    timeline = Timeline([
        record(5.0, datetime(1970, 1, 1, tzinfo=UTC), boot=16, synchronised=False),
        record(300.0, datetime(1970, 1, 1, tzinfo=UTC), boot=17, synchronised=False),
    ])  # fmt: skip
    assert not timeline.repairs(16)
    timeline.add(record(600.0, MORNING, boot=17))
    assert timeline.repairs(16)
    assert timeline.true_time(event(100.0, boot=16)).at == MORNING - timedelta(seconds=500)
    assert timeline.true_time(event(100.0, boot=15)).how == "unknown"


def test_the_record_that_follows_an_event_repairs_it_not_a_later_jump() -> None:
    jumped = MORNING + timedelta(hours=1)
    timeline = Timeline([record(900.0, jumped), record(600.0, MORNING)])
    assert timeline.true_time(event(590.0)).at == MORNING - timedelta(seconds=10)


def test_a_boot_that_never_heard_a_time_server_is_bounded_by_its_neighbours() -> None:
    earliest, latest = MORNING, MORNING + timedelta(hours=2)
    found = Timeline().true_time(event(10.0), earliest=earliest, latest=latest)
    assert (found.at, found.how, found.error_ms) == (earliest, "bounded", 2 * 3600 * 1000)
    within = event(10.0, at="2026-11-23T09:10:00.000Z")
    found = Timeline().true_time(within, earliest=earliest, latest=latest)
    assert (found.at, found.error_ms) == (stamped_time(within), 90 * 60 * 1000)
    assert Timeline().true_time(within).error_ms is None


def test_an_event_near_the_end_of_registration_is_flagged_when_its_error_reaches_over_it() -> None:
    boundary = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    assert TrueTime(boundary - timedelta(seconds=2), 3000, "repaired").may_cross(boundary)
    assert not TrueTime(boundary - timedelta(seconds=2), 1000, "repaired").may_cross(boundary)
    assert TrueTime(boundary - timedelta(days=2), None, "unknown").may_cross(boundary)


LONDON = zoneinfo.ZoneInfo("Europe/London")
REGISTERS = [time(8, 50), time(9, 20), time(13, 15)]


def near(at: str, error_ms: int | None, how: How = "repaired") -> list[time]:
    return near_boundaries(TrueTime(datetime.fromisoformat(at), error_ms, how), REGISTERS, LONDON)


def test_register_times_are_local_times_of_the_day_in_summer_and_in_winter() -> None:
    assert near("2026-11-23T09:19:30Z", 40_000) == [time(9, 20)]
    assert near("2026-06-23T08:19:30Z", 40_000) == [time(9, 20)]
    assert near("2026-06-23T09:19:30Z", 40_000) == []
    assert near("2026-11-23T09:19:30Z", 29_000) == []


def test_a_wide_error_reaches_over_several_registers_and_over_midnight() -> None:
    assert near("2026-11-23T09:05:00Z", 15 * 60_000) == [time(8, 50), time(9, 20)]
    assert near("2026-11-23T23:30:00Z", 10 * 3_600_000) == [time(8, 50), time(9, 20)]
    assert near("2026-11-23T23:30:00Z", 86_400_000) == REGISTERS


def test_a_set_clock_is_near_nothing_and_a_lost_one_near_everything() -> None:
    assert near("2026-11-23T09:20:00Z", 1000, "set") == []
    assert near("2026-11-23T23:30:00Z", None, "unknown") == REGISTERS


def test_on_the_day_of_the_clock_change_a_register_in_the_double_hour_is_judged_in_true_time() -> None:
    # 25 October 2026: 01:30 comes twice in London, first at 00:30 UTC.
    double = [time(1, 30)]
    first = TrueTime(datetime(2026, 10, 25, 0, 30, 20, tzinfo=UTC), 30_000, "repaired")
    second = TrueTime(datetime(2026, 10, 25, 1, 30, 20, tzinfo=UTC), 30_000, "repaired")
    assert near_boundaries(first, double, LONDON) == double
    assert near_boundaries(second, double, LONDON) == []


@pytest.mark.parametrize("data", [
    {}, {"boot_id": 1, "up": 1.0, "wall": "2026-11-23T08:40:00Z"}, {"boot_id": "b", "up": "1", "wall": "x"},
    {"boot_id": "b", "up": 1.0, "wall": "yesterday"}, {"boot_id": "b", "up": 1.0, "wall": "2026-11-23T08:40:00"},
    {"boot_id": "b", "up": True, "wall": "2026-11-23T08:40:00Z"},
])  # fmt: skip
def test_a_clock_event_of_unknown_form_repairs_nothing(data: dict[str, Any]) -> None:
    odd = event(1.0)
    odd.kind, odd.data = "clock", data
    assert read_clock_record(odd) is None


def test_a_clock_event_is_read_as_edge_clock_writes_it() -> None:
    written = event(60.0)
    written.kind = "clock"
    written.data = {
        "boot_id": "b1",
        "up": 60.0,
        "wall": "2026-11-23T08:40:00.000Z",
        "synchronised": True,
        "error_ms": 12,
    }
    assert read_clock_record(written) == record(60.0, MORNING, error_ms=12)
    assert read_clock_record(event(60.0)) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 86_400), min_size=2, max_size=20), st.floats(0, 86_400), st.floats(-50e-6, 50e-6))
def test_repaired_times_keep_the_order_and_the_truth_lies_within_the_error(
    ups: list[float], synchronised_up: float, drift: float
) -> None:
    def truth(up: float) -> datetime:
        return MORNING + timedelta(seconds=(up - synchronised_up) * (1 + drift))

    timeline = Timeline([record(synchronised_up, truth(synchronised_up))])
    repaired = [timeline.true_time(event(up)) for up in sorted(ups)]
    assert [item.at for item in repaired] == sorted(item.at for item in repaired)
    for up, item in zip(sorted(ups), repaired, strict=True):
        assert item.error_ms is not None
        assert abs(item.at - truth(up)) <= timedelta(milliseconds=item.error_ms)
