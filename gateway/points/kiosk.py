"""A reception kiosk: a tap signs a person in or out, and they may then say more.

Law of this file: a person is signed in or not; one granted tap toggles that and is one movement. Another tap within
`again_seconds` repeats the answer without a movement, because people tap twice when a screen is slow. A kiosk records
first, then answers: the register and the evacuation list need the record.

Where the site has actions, the answer offers them for a while. The tap is recorded all the same, so that nobody who
walks off is missing; a choice is a second movement that replaces the first and has its time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.access.people import KioskAction
from gateway.access.rules import Decision
from gateway.points.actions import Action, Record, Show, Signal, Tell

SIGNED_IN, SIGNED_OUT = "in", "out"
# What the screen offers beside the actions: the other direction.
NOT_RIGHT = "not-right"


@dataclass(frozen=True, slots=True)
class _Open:
    """A movement that may still be replaced."""

    id: str
    person: str
    direction: str
    until: float
    offered: tuple[KioskAction, ...]


def _numbers() -> Callable[[], str]:
    count = itertools.count(1)
    return lambda: str(next(count))


@dataclass(slots=True)
class Kiosk:
    """One kiosk.

    Attributes:
        again_seconds: within this time a second tap of the same person does not toggle the movement.
        show_seconds: how long a message stays on the screen.
        choose_seconds: how long it stays where there is something to choose.
        signed_in: persons who are in, by the hub's reference; restored from the journal at start.
        actions: returns what the site offers here; empty where a tap is all.
        new_id: returns a name for a movement, different for each of this gateway.
    """

    name: str
    again_seconds: float = 10.0
    show_seconds: float = 6.0
    choose_seconds: float = 20.0
    signed_in: set[str] = field(default_factory=set)
    kind: str = "kiosk"
    journal_first: bool = True
    actions: Callable[[], tuple[KioskAction, ...]] = tuple
    new_id: Callable[[], str] = field(default_factory=_numbers)
    _last: dict[str, float] = field(default_factory=dict)
    _clear_at: float | None = None
    _open: _Open | None = None

    def on_decision(self, reader: str, decision: Decision, now: float) -> list[Action]:
        """Answer a tap that is in the journal already."""
        if not decision.granted or decision.person is None:
            self._open, self._clear_at = None, now + self.show_seconds
            reason = "card_prelinked" if decision.granted else str(decision.reason)
            return [Tell(reader, Signal.DENIED), Show(self.name, "refused", {"reason": reason})]
        person = decision.person
        moved: list[Action] = []
        if now - self._last.get(person, -self.again_seconds) >= self.again_seconds:
            self._last = {known: at for known, at in self._last.items() if now - at < self.again_seconds}
            self._last[person] = now
            self.move(person, SIGNED_OUT if person in self.signed_in else SIGNED_IN)
            moved = [Record("movement", self.name, self._movement(person, decision.groups, now))]
        elif self._open is not None and self._open.person != person:
            self._open = None
        self._clear_at = now + (self.choose_seconds if self._open else self.show_seconds)
        shown = {"person": person, "direction": self._direction(person), **self._offers()}
        return [*moved, Tell(reader, Signal.GRANTED), Show(self.name, "movement", shown)]

    def choose(self, shown: str, option: str, now: float) -> list[Action]:
        """Replace the movement on the screen by what the person chose.

        Args:
            shown: the movement that was on the screen; another one, or one that has been there too long, is left alone.
            option: an action's id, or NOT_RIGHT.
        """
        opened = self._open
        if opened is None or opened.id != shown or now >= opened.until:
            return []
        chosen = next((item for item in opened.offered if item.id == option), None)
        if chosen is None and option != NOT_RIGHT:
            return []
        other = SIGNED_OUT if opened.direction == SIGNED_IN else SIGNED_IN
        direction = other if chosen is None else chosen.direction
        content: dict[str, object] = {"person": opened.person, "direction": direction, "replaces": opened.id}
        if chosen is not None:
            content |= {"action": chosen.id, **({"kind": "check"} if chosen.kind == "check" else {})}
        # A check leaves presence as it was before the tap.
        self.move(opened.person, direction if chosen is None or chosen.kind == "sign" else other)
        self._open, self._clear_at = None, now + self.show_seconds
        answer: dict[str, object] = {
            "person": opened.person,
            "direction": direction,
            "action": chosen.name if chosen else None,
        }
        return [Record("movement", self.name, content), Show(self.name, "movement", answer)]

    def on_record_failed(self, reader: str) -> list[Action]:
        """Answer a tap that could not be recorded, without a movement."""
        return [Tell(reader, Signal.FAULT), Show(self.name, "refused", {"reason": "not_recorded"})]

    def move(self, person: str, direction: str) -> None:
        """Apply a recorded movement; also used to restore the kiosk from the journal."""
        if direction == SIGNED_IN:
            self.signed_in.add(person)
        else:
            self.signed_in.discard(person)

    def restore(self, person: str, movement: Mapping[str, object]) -> None:
        """Apply a movement of the journal, in its order."""
        direction = str(movement.get("direction"))
        if movement.get("kind") != "check":
            self.move(person, direction)
        elif "replaces" in movement:
            # The tap before it toggled; a check takes that back.
            self.move(person, SIGNED_OUT if person in self.signed_in else SIGNED_IN)

    def tick(self, now: float) -> list[Action]:
        """Let time pass; the screen returns to its prompt."""
        if self._clear_at is None or now < self._clear_at:
            return []
        self._clear_at = self._open = None
        return [Show(self.name, "idle")]

    @property
    def deadline(self) -> float | None:
        return self._clear_at

    def _movement(self, person: str, groups: frozenset[str], now: float) -> dict[str, object]:
        direction = self._direction(person)
        content: dict[str, object] = {"person": person, "direction": direction}
        self._open = None
        offered = tuple(item for item in self.actions() if item.is_offered(self.name, groups))
        if offered:
            self._open = _Open(self.new_id(), person, direction, now + self.choose_seconds, offered)
            content["id"] = self._open.id
        return content

    def _offers(self) -> dict[str, object]:
        opened = self._open
        if opened is None:
            return {}
        # What goes the same way as the tap comes first.
        offered = sorted(opened.offered, key=lambda item: item.direction != opened.direction)
        return {"shown": opened.id, "options": [[item.id, item.name] for item in offered]}

    def _direction(self, person: str) -> str:
        return SIGNED_IN if person in self.signed_in else SIGNED_OUT
