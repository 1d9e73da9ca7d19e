"""The level of a lock's pin in each situation, from the kind of lock and the way people get out.

Law of this file: the table decides. Whether an energised lock is released or secured depends on its kind, so nothing
outside this file uses the term energised.

    fail-secure   a strike: without power it is secured, energised it is released.
    fail-safe     a maglock: without power it is released, energised it is secured.

    mechanical    a handle or panic bar opens from inside whatever the lock does, so the lock may stay secured while no
                  daemon runs.
    breakglass    the way out is a button or a break-glass unit; without the daemon nobody reads the button, so a lock
                  that can be released is.

A break-glass unit and a fire release cut the lock's power in hardware, always; no line of this table replaces them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class LockKind(enum.StrEnum):
    """What the lock does without power."""

    FAIL_SECURE = "fail-secure"
    FAIL_SAFE = "fail-safe"


class Egress(enum.StrEnum):
    """How people get out when nothing electric works."""

    MECHANICAL = "mechanical"
    BREAKGLASS = "breakglass"


class Situation(enum.StrEnum):
    """What decides the level of a lock's pin.

    Attributes:
        BOOT: the machine starts and no daemon has claimed the pin yet.
        SECURED: the daemon runs and the door is secured.
        RELEASED: the daemon runs and the door is released.
        CRASH: the daemon was killed or cannot start.
        STOP: the daemon was stopped on purpose.
        POWER_CUT: nothing is driven; the lock is in its state without power.
    """

    BOOT = "boot"
    SECURED = "secured"
    RELEASED = "released"
    CRASH = "crash"
    STOP = "stop"
    POWER_CUT = "power_cut"


_L, _E, _S = LockKind, Egress, Situation
_ON, _OFF = True, False
_ENERGISED: dict[tuple[LockKind, Egress], dict[Situation, bool]] = {
    (_L.FAIL_SECURE, _E.MECHANICAL): {
        _S.BOOT: _OFF,
        _S.SECURED: _OFF,
        _S.RELEASED: _ON,
        _S.CRASH: _OFF,
        _S.STOP: _OFF,
        _S.POWER_CUT: _OFF,
    },
    (_L.FAIL_SECURE, _E.BREAKGLASS): {
        _S.BOOT: _OFF,
        _S.SECURED: _OFF,
        _S.RELEASED: _ON,
        _S.CRASH: _OFF,
        _S.STOP: _OFF,
        _S.POWER_CUT: _OFF,
    },
    (_L.FAIL_SAFE, _E.MECHANICAL): {
        _S.BOOT: _ON,
        _S.SECURED: _ON,
        _S.RELEASED: _OFF,
        _S.CRASH: _ON,
        _S.STOP: _ON,
        _S.POWER_CUT: _OFF,
    },
    (_L.FAIL_SAFE, _E.BREAKGLASS): {
        _S.BOOT: _OFF,
        _S.SECURED: _ON,
        _S.RELEASED: _OFF,
        _S.CRASH: _OFF,
        _S.STOP: _OFF,
        _S.POWER_CUT: _OFF,
    },
}


@dataclass(frozen=True, slots=True)
class Lock:
    """One lock and its driver.

    Attributes:
        active_low: the driver energises the lock while its pin is low.
    """

    kind: LockKind = LockKind.FAIL_SECURE
    egress: Egress = Egress.MECHANICAL
    active_low: bool = False

    def is_energised(self, situation: Situation) -> bool:
        return _ENERGISED[self.kind, self.egress][situation]

    def is_high(self, situation: Situation) -> bool:
        """Return the level that the pin has to be driven to; a power cut drives nothing and reads as not energised."""
        return self.is_energised(situation) is not self.active_low

    def is_released(self, situation: Situation) -> bool:
        """Return whether people can pass without a card."""
        return self.is_energised(situation) is (self.kind is LockKind.FAIL_SECURE)
