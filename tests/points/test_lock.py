from __future__ import annotations

import itertools

import pytest

from gateway.config import EGRESS_WAYS, LOCK_KINDS
from gateway.points.lock import Egress, Lock, LockKind, Situation

LOCKS = [Lock(*parts) for parts in itertools.product(LockKind, Egress, (False, True))]
RUNNING = {Situation.SECURED: False, Situation.RELEASED: True}


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_a_running_door_is_secured_or_released_as_it_is_named(lock: Lock) -> None:
    for situation, released in RUNNING.items():
        assert lock.is_released(situation) is released


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_a_power_cut_leaves_every_lock_without_power(lock: Lock) -> None:
    assert not lock.is_energised(Situation.POWER_CUT)
    assert lock.is_released(Situation.POWER_CUT) is (lock.kind is LockKind.FAIL_SAFE)


@pytest.mark.parametrize("situation", [Situation.BOOT, Situation.CRASH, Situation.STOP])
def test_without_a_daemon_a_door_is_released_only_where_people_may_need_its_button(situation: Situation) -> None:
    released = {(lock.kind, lock.egress) for lock in LOCKS if lock.is_released(situation)}
    assert released == {(LockKind.FAIL_SAFE, Egress.BREAKGLASS)}


@pytest.mark.parametrize("lock", LOCKS, ids=str)
def test_one_level_serves_boot_crash_and_stop_so_that_the_guard_need_not_tell_them_apart(lock: Lock) -> None:
    assert len({lock.is_high(situation) for situation in (Situation.BOOT, Situation.CRASH, Situation.STOP)}) == 1


@pytest.mark.parametrize(("kind", "egress"), list(itertools.product(LockKind, Egress)))
def test_an_active_low_driver_turns_every_level_round(kind: LockKind, egress: Egress) -> None:
    for situation in Situation:
        assert Lock(kind, egress).is_high(situation) is not Lock(kind, egress, active_low=True).is_high(situation)


def test_the_configuration_knows_the_same_words() -> None:
    assert tuple(LockKind) == LOCK_KINDS
    assert tuple(Egress) == EGRESS_WAYS
