"""A reception kiosk: a tap signs a person in or out.

Law of this file: a person is signed in or not; one granted tap toggles that and is one movement. Another tap within
`again_seconds` repeats the answer without a movement, because people tap twice when a screen is slow. A kiosk records
first, then answers: the register and the evacuation list need the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.access.rules import Decision
from gateway.points.actions import Action, Record, Show, Signal, Tell

SIGNED_IN, SIGNED_OUT = "in", "out"


@dataclass(slots=True)
class Kiosk:
    """One kiosk.

    Attributes:
        again_seconds: within this time a second tap of the same person does not toggle the movement.
        show_seconds: how long a message stays on the screen.
        signed_in: persons who are in, by the hub's reference; restored from the journal at start.
    """

    name: str
    again_seconds: float = 10.0
    show_seconds: float = 6.0
    signed_in: set[str] = field(default_factory=set)
    kind: str = "kiosk"
    journal_first: bool = True
    _last: dict[str, float] = field(default_factory=dict)
    _clear_at: float | None = None

    def on_decision(self, reader: str, decision: Decision, now: float) -> list[Action]:
        """Answer a tap that is in the journal already."""
        self._clear_at = now + self.show_seconds
        if not decision.granted:
            return [Tell(reader, Signal.DENIED), Show(self.name, "refused", {"reason": str(decision.reason)})]
        if decision.person is None:
            return [Tell(reader, Signal.DENIED), Show(self.name, "refused", {"reason": "card_prelinked"})]
        person = decision.person
        moved: list[Action] = []
        if now - self._last.get(person, -self.again_seconds) >= self.again_seconds:
            self._last = {known: at for known, at in self._last.items() if now - at < self.again_seconds}
            self._last[person] = now
            self.move(person, SIGNED_OUT if person in self.signed_in else SIGNED_IN)
            moved = [Record("movement", self.name, {"person": person, "direction": self._direction(person)})]
        return [
            *moved,
            Tell(reader, Signal.GRANTED),
            Show(self.name, "movement", {"person": person, "direction": self._direction(person)}),
        ]

    def on_record_failed(self, reader: str) -> list[Action]:
        """Answer a tap that could not be recorded, without a movement."""
        return [Tell(reader, Signal.FAULT), Show(self.name, "refused", {"reason": "not_recorded"})]

    def move(self, person: str, direction: str) -> None:
        """Apply a recorded movement; also used to restore the kiosk from the journal."""
        if direction == SIGNED_IN:
            self.signed_in.add(person)
        else:
            self.signed_in.discard(person)

    def tick(self, now: float) -> list[Action]:
        """Let time pass; the screen returns to its prompt."""
        if self._clear_at is None or now < self._clear_at:
            return []
        self._clear_at = None
        return [Show(self.name, "idle")]

    @property
    def deadline(self) -> float | None:
        return self._clear_at

    def _direction(self, person: str) -> str:
        return SIGNED_IN if person in self.signed_in else SIGNED_OUT
