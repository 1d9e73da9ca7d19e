from __future__ import annotations

from gateway.access.rules import Decision, Reason
from gateway.points.actions import Action, Lock, Record, Show, Signal, Tell, Unlock
from gateway.points.door import Cause, Door, DoorState

GRANTED = Decision(True, Reason.OK)
DENIED = Decision(False, Reason.CARD_LOST)


def _without_screens(actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, Show)]


def _notes(actions: list[Action]) -> list[object]:
    return [action.content["state"] for action in actions if isinstance(action, Record)]


def test_a_granted_tap_asserts_the_strike_before_anything_else() -> None:
    door = Door("front", unlock_seconds=3)
    actions = door.on_decision("front-in", GRANTED, 0.0)
    assert actions[0] == Unlock("front", 3)
    assert actions[-1] == Tell("front-in", Signal.GRANTED)


def test_a_denied_tap_leaves_the_strike_alone() -> None:
    door = Door("front")
    assert door.on_decision("front-in", DENIED, 0.0) == [Tell("front-in", Signal.DENIED)]
    assert door.state is DoorState.LOCKED
    assert door.deadline is None


def test_without_a_contact_the_timer_relocks() -> None:
    door = Door("front", unlock_seconds=5)
    door.on_decision("r", GRANTED, 10.0)
    assert door.deadline == 15.0
    assert door.tick(14.9) == []
    assert _without_screens(door.tick(15.0)) == [Lock("front")]
    assert door.state is DoorState.LOCKED


def test_a_second_grant_starts_the_unlock_time_anew() -> None:
    door = Door("front", unlock_seconds=5)
    door.on_decision("r", GRANTED, 0.0)
    door.on_decision("r", GRANTED, 4.0)
    assert door.tick(5.0) == []
    assert _without_screens(door.tick(9.0)) == [Lock("front")]


def test_closing_the_leaf_ends_the_unlock_so_that_no_second_person_follows() -> None:
    door = Door("front", unlock_seconds=60)
    door.on_decision("r", GRANTED, 0.0)
    assert _notes(door.on_contact(True, 1.0)) == ["open"]
    actions = door.on_contact(False, 2.0)
    assert Lock("front") in actions
    assert _notes(actions) == ["locked"]
    assert door.deadline is None


def test_a_leaf_that_stands_open_becomes_held_open_and_says_when_it_closes() -> None:
    door = Door("front", unlock_seconds=5, held_open_seconds=30)
    door.on_decision("r", GRANTED, 0.0)
    door.on_contact(True, 1.0)
    assert Lock("front") in door.tick(5.0)
    assert _notes(door.tick(31.0)) == ["held_open"]
    assert _notes(door.on_contact(False, 90.0)) == ["locked"]


def test_a_leaf_that_opens_without_a_grant_is_forced_open() -> None:
    door = Door("front")
    assert _notes(door.on_contact(True, 0.0)) == ["forced_open"]
    assert door.on_contact(True, 0.1) == []
    assert _notes(door.on_contact(False, 9.0)) == ["locked"]


def test_rex_unlocks_from_inside_and_is_recorded_without_a_person() -> None:
    door = Door("front", unlock_seconds=5)
    actions = door.happen(Cause.REX, 0.0)
    assert actions[0] == Unlock("front", 5)
    assert Record("door", "front", {"state": "unlocked", "cause": "rex"}) in actions


def test_a_bouncing_contact_of_a_closed_door_changes_nothing() -> None:
    door = Door("front")
    door.on_decision("r", GRANTED, 0.0)
    assert door.on_contact(False, 0.1) == []
    assert door.state is DoorState.UNLOCKED


def test_from_every_state_the_strike_is_released_in_the_end() -> None:
    for first in (Cause.GRANT, Cause.REX, Cause.LEAF_OPENED):
        for second in Cause:
            door = Door("front", unlock_seconds=5, held_open_seconds=30)
            asserted = False
            for cause, now in ((first, 0.0), (second, 1.0)):
                for action in door.happen(cause, now):
                    asserted = isinstance(action, Unlock) or (asserted and not isinstance(action, Lock))
            while door.deadline is not None:
                for action in door.tick(door.deadline):
                    asserted = asserted and not isinstance(action, Lock)
            assert not asserted, (first, second)
