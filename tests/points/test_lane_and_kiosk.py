from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.people import KioskAction
from gateway.access.rules import Decision, Reason
from gateway.points.actions import Action, Record, Show, Signal, Tell
from gateway.points.kiosk import NOT_RIGHT, Kiosk
from gateway.points.lane import Lane, LaneState

ALICE = Decision(True, Reason.OK, person="p_00000000000000a1")
BOB = Decision(True, Reason.OK, person="p_00000000000000b0")
UNLINKED = Decision(True, Reason.OK)
DENIED = Decision(False, Reason.CARD_UNKNOWN)


def test_a_lane_shows_who_is_there_until_the_till_has_claimed_and_cleared() -> None:
    lane = Lane("lane-1")
    assert Show("lane-1", "lane", {"state": "presented", "person": ALICE.person}) in lane.on_decision("r", ALICE, 0.0)
    assert lane.claim(1.0)
    assert not lane.claim(1.1)
    assert lane.clear() == [Show("lane-1", "lane", {"state": "idle", "person": None})]
    assert lane.clear() == []


def test_a_tap_nobody_claims_is_cleared_after_its_time() -> None:
    lane = Lane("lane-1", claim_seconds=30)
    lane.on_decision("r", ALICE, 0.0)
    assert lane.tick(29.9) == []
    assert lane.tick(30.0) != []
    assert lane.state is LaneState.IDLE


def test_a_denied_tap_does_not_disturb_the_pupil_being_served() -> None:
    lane = Lane("lane-1")
    lane.on_decision("r", ALICE, 0.0)
    assert lane.on_decision("r", DENIED, 1.0) == [Tell("r", Signal.DENIED)]
    assert lane.person == ALICE.person


def test_lane_and_kiosk_answer_only_after_the_record() -> None:
    assert Lane("l").journal_first
    assert Kiosk("k").journal_first
    assert Lane("l").on_record_failed("r") == [Tell("r", Signal.FAULT)]
    assert Kiosk("k").on_record_failed("r")[0] == Tell("r", Signal.FAULT)


def test_a_kiosk_signs_in_then_out() -> None:
    kiosk = Kiosk("reception")
    first = kiosk.on_decision("r", ALICE, 0.0)
    second = kiosk.on_decision("r", ALICE, 60.0)
    assert first[0] == Record("movement", "reception", {"person": ALICE.person, "direction": "in"})
    assert second[0] == Record("movement", "reception", {"person": ALICE.person, "direction": "out"})
    assert kiosk.signed_in == set()


def test_a_double_tap_at_a_kiosk_is_one_movement() -> None:
    kiosk = Kiosk("reception", again_seconds=10)
    kiosk.on_decision("r", ALICE, 0.0)
    again = kiosk.on_decision("r", ALICE, 3.0)
    assert not any(isinstance(action, Record) for action in again)
    assert Show("reception", "movement", {"person": ALICE.person, "direction": "in"}) in again


def test_a_card_without_a_person_moves_nobody() -> None:
    kiosk = Kiosk("reception")
    assert kiosk.on_decision("r", UNLINKED, 0.0)[0] == Tell("r", Signal.DENIED)
    assert kiosk.signed_in == set()


DOCTOR = KioskAction("doctor", "Doctor's appointment", "check", "out")
BACK = KioskAction("back", "Back from an appointment", "check", "in")
TRIP = KioskAction("trip", "School trip", "sign", "out", ("gate",))


def choosing() -> Kiosk:
    return Kiosk("reception", actions=lambda: (DOCTOR, BACK, TRIP))


def screen(actions: list[Action]) -> dict[str, object]:
    return next(action.content for action in actions if isinstance(action, Show))


def recorded(actions: list[Action]) -> list[dict[str, object]]:
    return [action.content for action in actions if isinstance(action, Record)]


def test_a_tap_is_recorded_at_once_and_its_answer_offers_what_this_kiosk_has() -> None:
    actions = choosing().on_decision("r", ALICE, 0.0)
    assert recorded(actions) == [{"person": ALICE.person, "direction": "in", "id": "1"}]
    assert screen(actions)["options"] == [["back", BACK.name], ["doctor", DOCTOR.name]]
    assert screen(actions)["shown"] == "1"


@pytest.mark.parametrize(
    ("groups", "offered"),
    [({"student", "12"}, ["lunch", "doctor"]), ({"student", "7"}, ["doctor"]), ({"staff"}, ["doctor"])],
)
def test_an_action_is_offered_to_those_it_is_for(groups: set[str], offered: list[str]) -> None:
    lunch = KioskAction("lunch", "Lunch in town", "sign", "out", groups=frozenset({"12", "13"}))
    kiosk = Kiosk("reception", actions=lambda: (lunch, DOCTOR), signed_in={str(ALICE.person)})
    shown = screen(kiosk.on_decision("r", replace(ALICE, groups=frozenset(groups)), 0.0))
    options = shown["options"]
    assert isinstance(options, list)
    assert [option for option, _ in options] == offered
    assert (kiosk.choose("1", "lunch", 1.0) != []) is ("lunch" in offered)


def test_a_check_replaces_the_movement_and_leaves_presence_as_it_was() -> None:
    kiosk = choosing()
    kiosk.signed_in = {str(ALICE.person)}
    kiosk.on_decision("r", ALICE, 0.0)
    assert kiosk.signed_in == set()
    chosen = kiosk.choose("1", "doctor", 5.0)
    expected = {"person": ALICE.person, "direction": "out", "replaces": "1", "action": "doctor", "kind": "check"}
    assert recorded(chosen) == [expected]
    assert screen(chosen)["action"] == DOCTOR.name
    assert kiosk.signed_in == {ALICE.person}


def test_not_right_takes_the_other_direction() -> None:
    kiosk = choosing()
    kiosk.on_decision("r", ALICE, 0.0)
    assert recorded(kiosk.choose("1", NOT_RIGHT, 1.0)) == [
        {"person": ALICE.person, "direction": "out", "replaces": "1"}
    ]
    assert kiosk.signed_in == set()


@pytest.mark.parametrize(
    ("shown", "option", "now"),
    [("2", "doctor", 1.0), ("1", "trip", 1.0), ("1", "nonsense", 1.0), ("1", "doctor", 20.0)],
    ids=["another movement", "not offered here", "no such action", "too late"],
)
def test_a_choice_that_is_not_on_the_screen_changes_nothing(shown: str, option: str, now: float) -> None:
    kiosk = choosing()
    kiosk.on_decision("r", ALICE, 0.0)
    assert kiosk.choose(shown, option, now) == []
    assert kiosk.signed_in == {ALICE.person}


def test_nobody_chooses_for_the_one_before_and_nobody_twice() -> None:
    kiosk = choosing()
    kiosk.on_decision("r", ALICE, 0.0)
    kiosk.on_decision("r", BOB, 1.0)
    assert kiosk.choose("1", "doctor", 2.0) == []
    assert kiosk.choose("2", "doctor", 2.0) != []
    assert kiosk.choose("2", "doctor", 2.1) == []
    refused = kiosk.on_decision("r", DENIED, 3.0)
    assert "options" not in screen(refused)


def test_the_screen_forgets_after_its_time_and_a_second_tap_offers_the_same() -> None:
    kiosk = choosing()
    kiosk.on_decision("r", ALICE, 0.0)
    again = kiosk.on_decision("r", ALICE, 3.0)
    assert recorded(again) == []
    assert screen(again)["shown"] == "1"
    assert kiosk.tick(22.9) == []
    assert kiosk.tick(23.0) == [Show("reception", "idle")]
    assert kiosk.choose("1", "doctor", 23.0) == []


def test_a_restart_knows_what_a_check_left_as_it_was() -> None:
    kiosk = choosing()
    person = str(ALICE.person)
    for movement in (
        {"direction": "in"},
        {"direction": "out", "id": "7"},
        {"direction": "out", "kind": "check", "action": "doctor", "replaces": "7"},
    ):
        kiosk.restore(person, movement)
    assert kiosk.signed_in == {person}
