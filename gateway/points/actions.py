"""The actions of a point as plain values; outputs perform them and return Done or Failed."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Signal(enum.StrEnum):
    """Signals to the person at the reader by LED and buzzer."""

    GRANTED = "granted"
    DENIED = "denied"
    WAIT = "wait"
    FAULT = "fault"
    IDENTIFY = "identify"


@dataclass(frozen=True, slots=True)
class Unlock:
    """Assert the strike of a door for at most this long; a later Lock ends it early."""

    point: str
    unlock_seconds: float


@dataclass(frozen=True, slots=True)
class Lock:
    """Release the strike of a door now."""

    point: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Show a signal at one reader."""

    reader: str
    signal: Signal


@dataclass(frozen=True, slots=True)
class Show:
    """Put a message on the screens of a point (lane till, kiosk); the content is the point's own form."""

    point: str
    topic: str
    content: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """Write an event of this kind to the journal; `content` goes under the kind's own name."""

    kind: str
    point: str
    content: dict[str, object] = field(default_factory=dict)


Action = Unlock | Lock | Tell | Show | Record


@dataclass(frozen=True, slots=True)
class Done:
    """The action was performed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The action could not be performed; `why` is one sentence for the technician."""

    why: str


Outcome = Done | Failed
