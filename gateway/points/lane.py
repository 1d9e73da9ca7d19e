"""A canteen lane: a till that serves one card after another.

Law of this file: the table below is the whole state machine. A lane records first, then answers (`journal_first`): a
meal that is not in the journal was not sold here.

    idle      -> presented   a granted tap
    presented -> presented   another granted tap: the till serves who is there now
    presented -> claimed     the till claimed the tap
    presented -> idle        not claimed within claim_seconds
    claimed   -> presented   the next tap
    claimed   -> idle        the till is done, or gave up after claim_seconds
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.access.rules import Decision
from gateway.points.actions import Action, Show, Signal, Tell


class LaneState(enum.StrEnum):
    IDLE = "idle"
    PRESENTED = "presented"
    CLAIMED = "claimed"


@dataclass(slots=True)
class Lane:
    """One lane.

    Attributes:
        claim_seconds: how long a tap waits for the till before the screen is cleared.
        person: the person being served, by the hub's reference; None for nobody.
    """

    name: str
    claim_seconds: float = 30.0
    state: LaneState = LaneState.IDLE
    person: str | None = None
    kind: str = "lane"
    journal_first: bool = True
    _clear_at: float | None = None

    def on_decision(self, reader: str, decision: Decision, now: float) -> list[Action]:
        """Answer a tap that is in the journal already."""
        if not decision.granted:
            return [Tell(reader, Signal.DENIED)]
        self.state, self.person, self._clear_at = LaneState.PRESENTED, decision.person, now + self.claim_seconds
        return [Tell(reader, Signal.GRANTED), self._show()]

    def on_record_failed(self, reader: str) -> list[Action]:
        """Answer a tap that could not be recorded: no record, no service."""
        return [Tell(reader, Signal.FAULT)]

    def claim(self, now: float) -> bool:
        """Let the till claim the presented tap; False when there is none."""
        if self.state is not LaneState.PRESENTED:
            return False
        self.state, self._clear_at = LaneState.CLAIMED, now + self.claim_seconds
        return True

    def clear(self) -> list[Action]:
        """Free the lane for the next card."""
        if self.state is LaneState.IDLE:
            return []
        self.state, self.person, self._clear_at = LaneState.IDLE, None, None
        return [self._show()]

    def tick(self, now: float) -> list[Action]:
        """Let time pass."""
        return self.clear() if self._clear_at is not None and now >= self._clear_at else []

    @property
    def deadline(self) -> float | None:
        return self._clear_at

    def _show(self) -> Show:
        return Show(self.name, "lane", {"state": str(self.state), "person": self.person})
