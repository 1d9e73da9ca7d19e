"""From movements to marks: the table of the school day, its counter-examples, and laws that hold whatever is tapped."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as for_all
from hypothesis import settings as run_settings
from hypothesis import strategies as st

from gateway.access.schedule import Calendar
from gateway.config import ActionSettings, RegisterSettings, SessionSettings
from gateway.hub.attendance.derive import Movement, Proposal, Reading, derive
from gateway.hub.attendance.sessions import school_day
from gateway.hub.store.times import from_ms, to_ms
from gateway.hub.work.times import local_moment

ZONE, FRIDAY = ZoneInfo("Europe/London"), date(2026, 11, 20)
WEEKDAYS = frozenset(range(5))
AM = SessionSettings("AM", WEEKDAYS, time(8, 30), time(8, 45), time(9, 15), time(12, 0))
PM = SessionSettings("PM", WEEKDAYS, time(12, 50), time(13, 5), time(13, 35), time(15, 30))
PLAIN = RegisterSettings((AM, PM))
MARKS = replace(PLAIN, present_marks=True)
DOCTOR = ActionSettings("doctor", "Doctor", "check", "out", "M")
LATE = ActionSettings("late", "Late", "check", "in", codes={"before_closes": "L", "before_ends": "U"})
TRAIN = ActionSettings("train", "Train broken down", "sign", "in", "Y2")
LIBRARY = ActionSettings("library", "Library", "check", "in")


def at(clock: str, day: date = FRIDAY) -> int:
    return to_ms(local_moment(day, time.fromisoformat(clock), ZONE))


def move(clock: str, direction: str, action: ActionSettings | None = None, **more: object) -> Movement:
    kind = action.kind if action is not None else str(more.pop("kind", "sign"))
    return Movement(clock, at(clock), direction, kind, action, **more)


def marks(
    *movements: Movement,
    register: RegisterSettings = PLAIN,
    read: dict[str, str] | None = None,
    read_at: str = "23:00",
    now: str = "23:00",
    day: date = FRIDAY,
) -> dict[str, Proposal]:
    reading = None if read is None else Reading(at(read_at, day), read)
    found = derive(movements, school_day(register, day, ZONE), register, reading, at(now, day))
    return {item.session: item for item in found}


def short(found: dict[str, Proposal]) -> list[str]:
    """Write marks as `L 5`, held ones as `?M register_not_read`, none as `-`."""
    texts = []
    for item in found.values():
        code = f"{item.code or '-'}{f' {item.minutes_late}' if item.minutes_late else ''}"
        texts.append(f"?{code} {item.hold}" if item.hold else code)
    return texts


IN, OUT = "in", "out"
TABLE = [
    ("nobody tapped", [], PLAIN, ["-", "-"]),
    ("in before the register is no roll call", [move("08:20", IN)], PLAIN, ["-", "-"]),
    ("in when it starts, where marks are wanted", [move("08:20", IN)], MARKS, ["/", "-"]),
    ("the afternoon wants a tap of its own", [move("08:20", IN), move("12:30", IN)], MARKS, ["/", "\\"]),
    ("or trusts the morning's", [move("08:20", IN)], replace(MARKS, pm_presence="trusted"), ["/", "\\"]),
    ("in and out again before it starts", [move("08:20", IN), move("08:40", OUT)], MARKS, ["-", "-"]),
    ("exactly when it starts", [move("08:45", IN)], MARKS, ["L", "-"]),
    ("five minutes late", [move("08:50", IN)], PLAIN, ["L 5", "-"]),
    ("exactly when it closes", [move("09:15", IN)], PLAIN, ["U 30", "-"]),
    ("late, from the end of registration", [move("08:50", IN), move("12:50", IN)],
     replace(PLAIN, minutes_late_from="closes"), ["L", "-"]),
    ("exactly when the session ends", [move("12:00", IN)], MARKS, ["-", "\\"]),
    ("late in the afternoon", [move("13:10", IN)], PLAIN, ["-", "L 5"]),
    ("leaving later changes nothing", [move("08:50", IN), move("11:00", OUT)], PLAIN, ["L 5", "-"]),
    ("late by a check-in", [move("09:20", IN, LATE)], PLAIN, ["U 35", "-"]),
    ("a check-in at a building is no arrival", [move("10:00", IN, LIBRARY)], PLAIN, ["-", "-"]),
    ("an absence code while the register is open", [move("08:50", IN, TRAIN)], PLAIN, ["L 5", "-"]),
    ("an absence code after it closed", [move("09:50", IN, TRAIN)], PLAIN, ["Y2", "-"]),
    ("checked out before it starts", [move("08:20", IN), move("08:40", OUT, DOCTOR)], MARKS, ["M", "-"]),
    ("back from break", [move("08:20", IN), move("10:30", OUT), move("10:50", IN)], MARKS, ["/", "-"]),
    ("left after the register closed and came back", [move("10:30", OUT), move("11:00", IN)], PLAIN, ["-", "-"]),
    ("the dentist before school, back in time", [move("08:40", OUT, DOCTOR), move("09:00", IN)], PLAIN, ["L 15", "-"]),
    ("back too late", [move("08:40", OUT, DOCTOR), move("10:00", IN)], PLAIN, ["M", "-"]),
    ("at the dentist all morning", [move("08:40", OUT, DOCTOR)], PLAIN, ["M", "-"]),
    ("left in the morning, missed the afternoon", [move("08:20", IN), move("10:30", OUT, DOCTOR)], MARKS, ["/", "M"]),
    ("back before the afternoon", [move("08:20", IN), move("10:30", OUT, DOCTOR), move("12:40", IN)], MARKS,
     ["/", "\\"]),
    ("back late in the afternoon", [move("08:20", IN), move("10:30", OUT, DOCTOR), move("13:10", IN)], MARKS,
     ["/", "L 5"]),
    ("back after it closed", [move("08:20", IN), move("10:30", OUT, DOCTOR), move("14:10", IN)], MARKS, ["/", "M"]),
    ("signed out by itself at night", [move("08:20", IN), move("18:00", OUT, automatic=True)], MARKS, ["/", "-"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("movements", "register", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_day_becomes_marks(movements: list[Movement], register: RegisterSettings, expected: list[str]) -> None:
    assert short(marks(*movements, register=register)) == expected


def test_a_reason_for_leaving_waits_until_the_teacher_has_taken_the_register() -> None:
    left = move("10:30", OUT, DOCTOR)
    assert short(marks(left)) == ["?M register_not_read", "-"]
    assert short(marks(left, read={}, read_at="09:00")) == ["?M register_not_read", "-"]
    assert short(marks(left, read={})) == ["M", "-"]
    # The teacher has seen the child, so that the reason is for the afternoon.
    assert short(marks(left, read={"AM": "/"})) == ["-", "M"]


def test_the_next_session_waits_until_it_was_missed_or_not() -> None:
    day = (move("08:20", IN), move("10:30", OUT, DOCTOR))
    assert short(marks(*day, register=MARKS, now="13:00")) == ["/", "-"]
    assert short(marks(*day, register=MARKS, now="13:35")) == ["/", "M"]
    assert short(marks(*day, register=replace(MARKS, out_code_when="at_once"), now="10:31")) == ["/", "M"]


def test_a_time_that_is_not_sure_holds_only_what_hangs_on_it() -> None:
    # Seven minutes either way: the same code, other minutes.
    assert short(marks(move("08:55", IN, error_ms=420_000))) == ["L 10", "-"]
    assert short(marks(move("08:50", IN, error_ms=420_000), register=MARKS)) == ["?L 5 time_unsure", "-"]
    # Nothing bounds it: it may have been any time of the day.
    assert short(marks(move("08:50", IN, error_ms=None))) == ["?L 5 time_unsure", "?- time_unsure"]


def test_a_neighbour_in_time_that_may_have_come_first_holds_too() -> None:
    unsure = (move("08:20", IN), move("08:30", OUT, error_ms=900_000))
    assert short(marks(*unsure, register=MARKS)) == ["?- time_unsure", "-"]


def test_what_nobody_did_and_what_a_copy_may_have_done_decides_nothing() -> None:
    by_itself = (move("08:20", IN), move("08:40", OUT, automatic=True))
    assert short(marks(*by_itself, register=MARKS)) == ["?- automatic", "-"]
    assert short(marks(move("08:50", IN, copied=True))) == ["?L 5 copied", "-"]


def test_yesterday_never_carries_over_and_a_holiday_has_no_sessions() -> None:
    yesterday = replace(move("17:00", IN), at_ms=at("17:00", date(2026, 11, 19)))
    assert short(marks(yesterday, register=MARKS)) == ["-", "-"]
    assert school_day(PLAIN, FRIDAY, ZONE, calendar=Calendar(((FRIDAY, FRIDAY),))).sessions == ()
    assert school_day(PLAIN, date(2026, 11, 21), ZONE).sessions == ()


def test_sessions_of_other_years_are_not_theirs() -> None:
    early = replace(AM, years=("12", "13"))
    register = replace(PLAIN, sessions=(early, replace(AM, starts=time(9, 0), closes=time(9, 30), years=("7",))))
    assert [item.starts_ms for item in school_day(register, FRIDAY, ZONE, "7").sessions] == [at("09:00")]
    assert school_day(register, FRIDAY, ZONE, "9").sessions == ()


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_the_days_on_which_the_clock_changes_have_their_sessions_by_the_wall_clock(day: date) -> None:
    register = replace(PLAIN, sessions=tuple(replace(item, days=frozenset(range(7))) for item in (AM, PM)))
    (morning, _) = school_day(register, day, ZONE).sessions
    assert f"{from_ms(morning.starts_ms, ZONE):%H:%M}" == "08:45"
    arrival = replace(move("08:50", IN), at_ms=at("08:50", day))
    assert short(marks(arrival, register=register, day=day)) == ["L 5", "-"]


_MOVES = st.lists(
    st.builds(
        lambda minute, action, error: Movement(
            f"{minute}", at("00:00") + minute * 60_000, action.direction, action.kind, action, error
        ),
        st.integers(0, 24 * 60 - 1),
        st.sampled_from(
            [
                DOCTOR,
                LATE,
                TRAIN,
                LIBRARY,
                ActionSettings("in", "In", "sign", "in"),
                ActionSettings("out", "Out", "sign", "out"),
            ]
        ),
        st.sampled_from([0, 0, 0, 60_000, None]),
    ),
    max_size=6,
    unique_by=lambda item: item.at_ms,
)


@run_settings(max_examples=300, deadline=None)
@for_all(_MOVES, st.sampled_from([PLAIN, MARKS, replace(MARKS, pm_presence="trusted")]), st.randoms())
def test_the_order_of_arrival_at_the_hub_changes_no_mark(
    moves: list[Movement], register: RegisterSettings, draw
) -> None:
    shuffled = draw.sample(moves, len(moves))
    assert marks(*moves, register=register) == marks(*shuffled, register=register)


@run_settings(max_examples=300, deadline=None)
@for_all(_MOVES)
def test_without_roll_call_marks_nobody_is_present_by_a_tap_before_the_register(moves: list[Movement]) -> None:
    for item in marks(*moves).values():
        assert item.code not in {"/", "\\"}
        # Every mark rests on something that somebody did.
        assert item.code is None or item.evidence


@run_settings(max_examples=200, deadline=None)
@for_all(_MOVES, st.integers(1, 40))
def test_a_code_that_stands_although_the_time_is_unsure_is_that_of_every_possible_time(
    moves: list[Movement], minutes: int
) -> None:
    if not moves:
        return
    exact = [replace(item, error_ms=0) for item in moves]
    unsure = [replace(exact[0], error_ms=minutes * 60_000), *exact[1:]]
    found = marks(*unsure, register=MARKS)
    for shift in (-minutes, -minutes // 2, minutes // 2, minutes):
        moved = [replace(exact[0], at_ms=exact[0].at_ms + shift * 60_000 + (1 if shift < 0 else -1)), *exact[1:]]
        if len({item.at_ms for item in moved}) < len(moved):
            continue
        for session, other in marks(*moved, register=MARKS).items():
            assert found[session].hold or found[session].code == other.code
