from __future__ import annotations

from gateway.access.rules import Decision, Reason
from gateway.points.actions import Record, Show, Signal, Tell
from gateway.points.kiosk import Kiosk
from gateway.points.lane import Lane, LaneState

ALICE = Decision(True, Reason.OK, person="p_00000000000000a1")
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
