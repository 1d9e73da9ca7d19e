from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.hub.work.times import Timing, local_moment, next_run

LONDON = ZoneInfo("Europe/London")
# Changes of an hour and of half an hour, on both halves of the earth, at midnight, of a whole day, and none.
ZONES = [
    ZoneInfo(name)
    for name in (
        "Europe/London",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
        "Africa/Cairo",
        "Pacific/Apia",
        "Asia/Kolkata",
    )
]
moments = st.integers(0, 22 * 366 * 1440).map(
    lambda minutes: datetime(2009, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)
days_of_change = st.sampled_from([date(2026, 3, 29), date(2026, 10, 25), date(2011, 12, 30), date(2026, 4, 5)])
near_changes = st.builds(
    lambda day, minutes: datetime.combine(day, time(), UTC) + timedelta(minutes=minutes),
    days_of_change,
    st.integers(-3000, 3000),
)
anytime = st.one_of(moments, near_changes)
clocks = st.builds(time, st.integers(0, 23), st.integers(0, 59))
zones = st.sampled_from(ZONES)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_time_that_the_spring_skips_is_the_first_moment_after() -> None:
    timing = Timing(times=(time(1, 30),))
    assert next_run(timing, utc("2026-03-28 12:00"), LONDON) == utc("2026-03-29 01:00")
    assert next_run(timing, utc("2026-03-29 01:00"), LONDON) == utc("2026-03-30 00:30")


def test_a_time_that_the_autumn_repeats_comes_once() -> None:
    timing = Timing(times=(time(1, 30),))
    first = next_run(timing, utc("2026-10-24 12:00"), LONDON)
    assert first == utc("2026-10-25 00:30")
    assert next_run(timing, first, LONDON) == utc("2026-10-26 01:30")


def test_a_day_that_a_zone_leaves_out_has_no_run() -> None:
    apia = ZoneInfo("Pacific/Apia")
    assert local_moment(date(2011, 12, 30), time(12), apia) == local_moment(date(2011, 12, 31), time(), apia)
    timing = Timing(times=(time(12),))
    eve = local_moment(date(2011, 12, 29), time(12), apia)
    assert next_run(timing, eve, apia) == local_moment(date(2011, 12, 31), time(12), apia)


@given(anytime, clocks, zones)
def test_a_daily_time_is_the_local_time_or_the_end_of_the_gap_that_took_it(
    after: datetime, at: time, zone: ZoneInfo
) -> None:
    found = next_run(Timing(times=(at,)), after, zone)
    assert found is not None
    assert found > after
    local = found.astimezone(zone)
    if local.time() != at:
        before = (found - timedelta(seconds=1)).astimezone(zone)
        assert before.utcoffset() != local.utcoffset()
        assert before.replace(tzinfo=None) < datetime.combine(local.date(), at) or before.date() < local.date()
    assert local.fold == 0


@given(anytime, clocks, zones)
def test_a_daily_time_comes_once_a_local_day(after: datetime, at: time, zone: ZoneInfo) -> None:
    seen = []
    moment: datetime | None = after
    for _ in range(5):
        assert moment is not None
        moment = next_run(Timing(times=(at,)), moment, zone)
        assert moment is not None
        seen.append(moment.astimezone(zone).date())
    assert len(set(seen)) == 5
    # No day is left out, but for one that the zone itself leaves out.
    assert (seen[-1] - seen[0]).days <= 4 + (zone.key == "Pacific/Apia")


@given(anytime, clocks, clocks, zones, st.text(max_size=8))
def test_a_window_holds_its_run_and_comes_once_a_day(
    after: datetime, begins: time, ends: time, zone: ZoneInfo, spread_by: str
) -> None:
    assume(begins < ends)
    timing = Timing(spread_by=spread_by, window=(begins, ends))
    first = next_run(timing, after, zone)
    assert first is not None
    day = first.astimezone(zone).date()
    latest = max(local_moment(day, begins, zone) + timedelta(seconds=1), local_moment(day, ends, zone))
    assert local_moment(day, begins, zone) <= first < latest
    second = next_run(timing, first, zone)
    assert second is not None
    assert second.astimezone(zone).date() > day


@given(st.dates(date(2026, 1, 1), date(2027, 1, 1)))
def test_schools_do_not_all_read_at_the_beginning_of_the_night(day: date) -> None:
    after = datetime.combine(day, time(0, 0), UTC) - timedelta(hours=12)
    found = {
        next_run(Timing(spread_by=f"school-{number}/1", window=(time(1), time(3))), after, LONDON)
        for number in range(40)
    }
    assert len(found) > 30


@given(anytime, zones, st.integers(1, 10_080), st.sets(st.integers(0, 6)))
def test_a_pause_is_kept_and_only_allowed_weekdays_are_used(
    after: datetime, zone: ZoneInfo, minutes: int, days: set[int]
) -> None:
    found = next_run(Timing(every_minutes=minutes, days=frozenset(days)), after, zone)
    if not days:
        assert found is None
        return
    assert found is not None
    assert found >= after + timedelta(minutes=minutes)
    assert found.astimezone(zone).weekday() in days or zone.key == "Pacific/Apia"


@given(anytime, zones)
def test_a_job_without_times_never_runs_by_itself(after: datetime, zone: ZoneInfo) -> None:
    assert next_run(Timing(), after, zone) is None
