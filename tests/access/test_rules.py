from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.people import CardEntry, CardState, Copies, PointRules, Rule, Stale, UnsetClock
from gateway.access.rules import Decision, Moment, Presentation, Reason, decide
from gateway.access.schedule import ALWAYS, Calendar, Schedule, Window, applies, format_window, parse_window
from gateway.config import COPIES, STALE, UNSET_CLOCK

KEY = bytes(range(16))
MONDAY_NINE = datetime(2026, 11, 23, 9, 0)  # noqa: DTZ001  # site-local wall clock
HOURS = Schedule("hours", (Window(frozenset(range(5)), time(7, 30), time(18)),))
PUPIL = CardEntry("p_00000000000000a1", CardState.ACTIVE, frozenset({"pupils"}), None, None, True)


@dataclass
class _Roster:
    cards: dict[bytes, CardEntry]
    points: dict[str, PointRules] = field(
        default_factory=lambda: {
            "gate": PointRules(
                (Rule("staff", frozenset({"staff"}), ALWAYS), Rule("day", frozenset({"pupils"}), HOURS))
            ),
        }
    )
    version: int = 7
    calendar: Calendar = field(default_factory=Calendar)
    projections: tuple[str, ...] = ("uid",)

    def find(self, key: bytes) -> CardEntry | None:
        return self.cards.get(key)

    def point(self, name: str) -> PointRules | None:
        return self.points.get(name)


def _reason(entry: CardEntry, point: str = "gate", local: datetime = MONDAY_NINE) -> Reason:
    return decide(Presentation((KEY,)), _Roster({KEY: entry}), point, Moment(local)).reason


def test_a_pupil_in_school_hours_is_granted_by_the_rule_that_fits() -> None:
    decision = decide(Presentation((KEY,)), _Roster({KEY: PUPIL}), "gate", Moment(MONDAY_NINE))
    assert decision.granted
    assert (decision.person, decision.rule, decision.roster, decision.key) == (PUPIL.person, "day", 7, KEY)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (CardState.PRELINKED, Reason.CARD_PRELINKED),
        (CardState.BLOCKED, Reason.CARD_BLOCKED),
        (CardState.LOST, Reason.CARD_LOST),
        (CardState.REPLACED, Reason.CARD_REPLACED),
    ],
)
def test_a_card_that_is_not_active_is_denied_with_its_state_even_inside_its_schedule(
    state: CardState, reason: Reason
) -> None:
    assert _reason(replace(PUPIL, state=state)) is reason


def test_a_card_works_on_its_first_and_last_day_and_on_no_other() -> None:
    entry = replace(PUPIL, valid_from=date(2026, 11, 23), valid_until=date(2026, 11, 24))
    days = {day: _reason(entry, local=MONDAY_NINE.replace(day=day)) for day in (20, 23, 24, 25)}
    assert days == {20: Reason.CARD_EXPIRED, 23: Reason.OK, 24: Reason.OK, 25: Reason.CARD_EXPIRED}


def test_a_person_who_has_left_is_denied() -> None:
    assert _reason(replace(PUPIL, person_active=False)) is Reason.PERSON_INACTIVE


def test_outside_the_schedule_and_no_rule_at_all_are_told_apart() -> None:
    assert _reason(PUPIL, local=MONDAY_NINE.replace(hour=19)) is Reason.OUTSIDE_SCHEDULE
    assert _reason(replace(PUPIL, groups=frozenset())) is Reason.NO_ACCESS
    assert _reason(PUPIL, point="boiler-room") is Reason.NO_ACCESS


def test_lockdown_denies_those_who_may_otherwise_pass() -> None:
    roster = _Roster({KEY: PUPIL})
    roster.points["gate"] = PointRules(roster.points["gate"].rules, lockdown=True)
    assert decide(Presentation((KEY,)), roster, "gate", Moment(MONDAY_NINE)).reason is Reason.LOCKDOWN


def test_a_holiday_closes_school_hours_but_not_the_rule_for_holidays() -> None:
    roster = _Roster({KEY: PUPIL}, calendar=Calendar(((date(2026, 11, 23), date(2026, 11, 23)),)))
    assert decide(Presentation((KEY,)), roster, "gate", Moment(MONDAY_NINE)).reason is Reason.OUTSIDE_SCHEDULE
    roster.cards[KEY] = replace(PUPIL, groups=frozenset({"staff"}))
    assert decide(Presentation((KEY,)), roster, "gate", Moment(MONDAY_NINE)).reason is Reason.OK


def test_no_roster_and_unknown_card_and_unusable_card_are_three_reasons() -> None:
    roster = _Roster({})
    assert decide(Presentation((KEY,)), None, "gate", Moment(MONDAY_NINE)).reason is Reason.ROSTER_MISSING
    assert decide(Presentation((KEY,)), roster, "gate", Moment(MONDAY_NINE)).reason is Reason.CARD_UNKNOWN
    refused = Presentation(refused=Reason.CARD_RANDOM_UID)
    assert decide(refused, roster, "gate", Moment(MONDAY_NINE)).reason is Reason.CARD_RANDOM_UID


def test_a_card_known_only_by_a_lossy_projection_is_found_by_its_second_key() -> None:
    lossy = bytes(16)
    decision = decide(Presentation((KEY, lossy)), _Roster({lossy: PUPIL}), "gate", Moment(MONDAY_NINE))
    assert decision.granted
    assert decision.key == lossy


def test_a_window_holds_its_start_and_not_its_end() -> None:
    at = {clock: applies(HOURS, Calendar(), datetime.combine(MONDAY_NINE, clock)) for clock in (time(7, 30), time(18))}
    assert at == {time(7, 30): True, time(18): False}


@pytest.mark.parametrize("bad", ["", "mon", "mon 9", "noday 09:00-10:00", "fri-mon 09:00-10:00", "mon 10:00-09:00"])
def test_a_window_that_cannot_be_read_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):
        parse_window(bad)


@given(
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1438),
    st.integers(1, 1440),
)
def test_a_window_reads_back_as_it_was_written(days: frozenset[int], start: int, end: int) -> None:
    end = max(end, start + 1)
    window = Window(days, time(start // 60, start % 60), time(0) if end == 1440 else time(end // 60, end % 60))
    assert parse_window(format_window(window)) == window


def _unset(policy: UnsetClock, entry: CardEntry = PUPIL, local: datetime = MONDAY_NINE) -> Decision:
    rules = (Rule("staff", frozenset({"staff"}), ALWAYS), Rule("day", frozenset({"pupils"}), HOURS))
    roster = _Roster({KEY: entry}, {"gate": PointRules(rules, unset_clock=policy)})
    return decide(Presentation((KEY,)), roster, "gate", Moment(local, clock_is_set=False))


# Friday evening, when the Pi was switched off; school hours, although the power came back at night; no clock at all.
@pytest.mark.parametrize("local", [datetime(2026, 11, 27, 19, 6), MONDAY_NINE, datetime(1970, 1, 1)])  # noqa: DTZ001
def test_hours_are_not_judged_by_a_clock_that_nobody_set(local: datetime) -> None:
    decision = _unset(UnsetClock.RULES_WITHOUT_HOURS, local=local)
    assert (decision.granted, decision.reason) == (False, Reason.CLOCK_UNSET)


def test_a_rule_without_hours_counts_whatever_the_clock_says() -> None:
    caretaker = replace(PUPIL, groups=frozenset({"staff"}))
    assert _unset(UnsetClock.RULES_WITHOUT_HOURS, caretaker).rule == "staff"
    holidays = _Roster({KEY: caretaker}, calendar=Calendar(((date(2026, 11, 23), date(2026, 11, 23)),)))
    assert decide(Presentation((KEY,)), holidays, "gate", Moment(MONDAY_NINE, clock_is_set=False)).granted


def test_a_point_may_grant_or_deny_all_its_people_while_the_clock_is_unset() -> None:
    caretaker = replace(PUPIL, groups=frozenset({"staff"}))
    assert _unset(UnsetClock.GRANT).rule == "day"
    assert _unset(UnsetClock.DENY, caretaker).reason is Reason.CLOCK_UNSET


@pytest.mark.parametrize("policy", UnsetClock)
def test_an_unset_clock_opens_nothing_to_a_card_that_is_lost_expired_or_of_no_rule(policy: UnsetClock) -> None:
    assert _unset(policy, replace(PUPIL, state=CardState.LOST)).reason is Reason.CARD_LOST
    assert _unset(policy, replace(PUPIL, person_active=False)).reason is Reason.PERSON_INACTIVE
    assert _unset(policy, replace(PUPIL, groups=frozenset())).reason is Reason.NO_ACCESS
    # The time is at least what the clock says, so what has ended has ended.
    assert _unset(policy, replace(PUPIL, valid_until=date(2026, 11, 22))).reason is Reason.CARD_EXPIRED


def test_a_card_that_is_not_valid_yet_waits_for_the_clock() -> None:
    coming = replace(PUPIL, valid_from=date(2026, 11, 24))
    assert _unset(UnsetClock.RULES_WITHOUT_HOURS, coming).reason is Reason.CLOCK_UNSET
    assert _unset(UnsetClock.GRANT, coming).granted


@pytest.mark.parametrize(
    ("stale", "groups", "age", "reason"),
    [
        (Stale.WARN, {"pupils"}, 1e9, Reason.OK),
        (Stale.STAFF, {"pupils"}, 3601, Reason.ROSTER_STALE),
        (Stale.STAFF, {"pupils", "staff"}, 3601, Reason.OK),
        (Stale.DENY, {"pupils", "staff"}, 3601, Reason.ROSTER_STALE),
        (Stale.DENY, {"pupils"}, 3600, Reason.OK),
        (Stale.DENY, {"pupils"}, None, Reason.OK),
    ],
)
def test_a_roster_that_the_hub_has_not_confirmed_for_too_long_serves_whom_the_point_says(
    stale: Stale, groups: set[str], age: float | None, reason: Reason
) -> None:
    rules = PointRules((Rule("all", frozenset(), ALWAYS),), stale=stale, stale_after_seconds=3600)
    roster = _Roster({KEY: replace(PUPIL, groups=frozenset(groups))}, {"gate": rules})
    assert decide(Presentation((KEY,)), roster, "gate", Moment(MONDAY_NINE, True, age)).reason is reason


@pytest.mark.parametrize(
    ("copies", "groups", "reason"),
    [
        (Copies.LOG, {"pupils"}, Reason.OK),
        (Copies.STAFF, {"pupils"}, Reason.CARD_COPIED),
        (Copies.STAFF, {"pupils", "staff"}, Reason.OK),
        (Copies.DENY, {"pupils", "staff"}, Reason.CARD_COPIED),
    ],
)
def test_a_card_that_looks_like_a_copy_passes_where_the_point_says(
    copies: Copies, groups: set[str], reason: Reason
) -> None:
    roster = _Roster(
        {KEY: replace(PUPIL, groups=frozenset(groups))},
        {"gate": PointRules((Rule("all", frozenset(), ALWAYS),), copies=copies)},
    )
    assert decide(Presentation((KEY,), looks_copied=True), roster, "gate", Moment(MONDAY_NINE)).reason is reason
    assert decide(Presentation((KEY,)), roster, "gate", Moment(MONDAY_NINE)).granted


def test_a_copy_of_a_lost_card_is_a_lost_card() -> None:
    roster = _Roster(
        {KEY: replace(PUPIL, state=CardState.LOST)},
        {"gate": PointRules((Rule("all", frozenset(), ALWAYS),), copies=Copies.DENY)},
    )
    decision = decide(Presentation((KEY,), looks_copied=True), roster, "gate", Moment(MONDAY_NINE))
    assert decision.reason is Reason.CARD_LOST


def test_the_settings_know_every_policy() -> None:
    assert (set(COPIES), COPIES[0]) == (set(Copies), PointRules(()).copies)
    assert set(UNSET_CLOCK) == set(UnsetClock)
    assert set(STALE) == set(Stale)
    assert (UNSET_CLOCK[0], STALE[0]) == (PointRules(()).unset_clock, PointRules(()).stale)
