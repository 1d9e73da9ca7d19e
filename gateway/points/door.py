"""A door: strike, optional door contact, optional REX.

Law of this file: every change of state is in _TABLE; the class below only looks it up, sets timers and returns Actions.
Time is an argument, in seconds of a clock that never goes back.

A door acts first and records after (`journal_first` is False), because a memory card may stall for half a second. It
fails locked: an unlock ends by its own timer, or earlier when the leaf closes again, so that no second person follows.
Without a door contact the state of the leaf is unknown and never reported.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.access.rules import Decision
from gateway.points.actions import Action, Lock, Record, Show, Signal, Tell, Unlock


class DoorState(enum.StrEnum):
    LOCKED = "locked"
    UNLOCKED = "unlocked"
    OPEN = "open"
    HELD_OPEN = "held_open"
    FORCED_OPEN = "forced_open"


class Cause(enum.Enum):
    """The causes that change a door's state."""

    GRANT = enum.auto()
    REX = enum.auto()
    LEAF_OPENED = enum.auto()
    LEAF_CLOSED = enum.auto()
    UNLOCK_OVER = enum.auto()
    HELD_TOO_LONG = enum.auto()


class _Do(enum.Enum):
    UNLOCK = enum.auto()
    LOCK = enum.auto()
    WATCH_LEAF = enum.auto()
    NOTE = enum.auto()


_S, _C = DoorState, Cause
_TABLE: dict[tuple[DoorState, Cause], tuple[DoorState, tuple[_Do, ...]]] = {
    (_S.LOCKED, _C.GRANT): (_S.UNLOCKED, (_Do.UNLOCK,)),
    (_S.LOCKED, _C.REX): (_S.UNLOCKED, (_Do.UNLOCK, _Do.NOTE)),
    (_S.LOCKED, _C.LEAF_OPENED): (_S.FORCED_OPEN, (_Do.NOTE,)),
    (_S.UNLOCKED, _C.GRANT): (_S.UNLOCKED, (_Do.UNLOCK,)),
    (_S.UNLOCKED, _C.REX): (_S.UNLOCKED, (_Do.UNLOCK, _Do.NOTE)),
    (_S.UNLOCKED, _C.LEAF_OPENED): (_S.OPEN, (_Do.WATCH_LEAF, _Do.NOTE)),
    (_S.UNLOCKED, _C.UNLOCK_OVER): (_S.LOCKED, (_Do.LOCK,)),
    (_S.OPEN, _C.GRANT): (_S.OPEN, (_Do.UNLOCK, _Do.WATCH_LEAF)),
    (_S.OPEN, _C.REX): (_S.OPEN, (_Do.UNLOCK, _Do.WATCH_LEAF, _Do.NOTE)),
    (_S.OPEN, _C.UNLOCK_OVER): (_S.OPEN, (_Do.LOCK,)),
    (_S.OPEN, _C.LEAF_CLOSED): (_S.LOCKED, (_Do.LOCK, _Do.NOTE)),
    (_S.OPEN, _C.HELD_TOO_LONG): (_S.HELD_OPEN, (_Do.NOTE,)),
    (_S.HELD_OPEN, _C.GRANT): (_S.OPEN, (_Do.UNLOCK, _Do.WATCH_LEAF)),
    (_S.HELD_OPEN, _C.REX): (_S.OPEN, (_Do.UNLOCK, _Do.WATCH_LEAF, _Do.NOTE)),
    (_S.HELD_OPEN, _C.UNLOCK_OVER): (_S.HELD_OPEN, (_Do.LOCK,)),
    (_S.HELD_OPEN, _C.LEAF_CLOSED): (_S.LOCKED, (_Do.LOCK, _Do.NOTE)),
    (_S.FORCED_OPEN, _C.GRANT): (_S.OPEN, (_Do.UNLOCK, _Do.WATCH_LEAF)),
    (_S.FORCED_OPEN, _C.REX): (_S.OPEN, (_Do.UNLOCK, _Do.WATCH_LEAF, _Do.NOTE)),
    (_S.FORCED_OPEN, _C.LEAF_CLOSED): (_S.LOCKED, (_Do.LOCK, _Do.NOTE)),
}


@dataclass(slots=True)
class Door:
    """One door; every call returns the actions to perform, in order.

    Attributes:
        unlock_seconds: longest time the strike stays asserted after one grant.
        held_open_seconds: how long the leaf may stand open before that is an alarm.
    """

    name: str
    unlock_seconds: float = 5.0
    held_open_seconds: float = 30.0
    state: DoorState = DoorState.LOCKED
    kind: str = "door"
    journal_first: bool = False
    _lock_at: float | None = None
    _held_at: float | None = None

    def on_decision(self, reader: str, decision: Decision, now: float) -> list[Action]:
        """Answer a tap at one of the door's readers."""
        if not decision.granted:
            return [Tell(reader, Signal.DENIED)]
        return [*self.happen(Cause.GRANT, now), Tell(reader, Signal.GRANTED)]

    def on_record_failed(self, reader: str) -> list[Action]:
        """Answer a tap that could not be recorded; the door has already acted and keeps its state."""
        del reader
        return []

    def on_contact(self, is_open: bool, now: float) -> list[Action]:
        """Take the level of the door contact; may be called with the same level again."""
        return self.happen(Cause.LEAF_OPENED if is_open else Cause.LEAF_CLOSED, now)

    def tick(self, now: float) -> list[Action]:
        """Let time pass; call at or after `deadline`."""
        actions: list[Action] = []
        if self._lock_at is not None and now >= self._lock_at:
            actions += self.happen(Cause.UNLOCK_OVER, now)
        if self._held_at is not None and now >= self._held_at:
            actions += self.happen(Cause.HELD_TOO_LONG, now)
        return actions

    @property
    def deadline(self) -> float | None:
        """Return when tick has something to do next, None for never."""
        return min((time for time in (self._lock_at, self._held_at) if time is not None), default=None)

    def happen(self, cause: Cause, now: float) -> list[Action]:
        """Apply one cause to the door; a cause without an entry in the table changes nothing."""
        transition = _TABLE.get((self.state, cause))
        if transition is None:
            return []
        self.state, steps = transition
        actions: list[Action] = []
        for action in steps:
            match action:
                case _Do.UNLOCK:
                    self._lock_at = now + self.unlock_seconds
                    actions.append(Unlock(self.name, self.unlock_seconds))
                case _Do.LOCK:
                    self._lock_at = None
                    actions.append(Lock(self.name))
                case _Do.WATCH_LEAF:
                    self._held_at = now + self.held_open_seconds
                case _Do.NOTE:
                    content: dict[str, object] = {"state": str(self.state), "cause": cause.name.lower()}
                    actions.append(Record("door", self.name, content))
        if self.state is not DoorState.OPEN:
            self._held_at = None
        if actions:
            actions.append(Show(self.name, "door", {"state": str(self.state)}))
        return actions
