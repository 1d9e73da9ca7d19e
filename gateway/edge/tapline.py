"""The way of one tap: from a presentation at a reader to its point, its outputs and its record.

Runs on the bus thread of the reader. Nothing here waits for network or web; the answer of a lane and a kiosk waits for
the journal, at most RECORD_SECONDS, and the reader hardly does (answers.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from gateway.access.event import CardRef, Event
from gateway.access.people import Roster
from gateway.access.rules import Decision, Moment, Presentation, Reason, decide
from gateway.cards.encodings import project
from gateway.cards.identity import CardNumber, card_key
from gateway.edge.answers import Answers, Ticket
from gateway.edge.brake import Brake
from gateway.edge.clock import Clock
from gateway.edge.copies import Copies
from gateway.outputs.base import Switchboard
from gateway.points.actions import Action, Failed, Record
from gateway.readers.base import CardGone, CardRead, CardRefused, CardSuspicion, ReaderEvent, ReaderNotice

log = logging.getLogger(__name__)


class Point(Protocol):
    """What the tapline needs of a door, a lane or a kiosk; see points."""

    name: str
    kind: str
    journal_first: bool

    def on_decision(self, reader: str, decision: Decision, now: float) -> list[Action]: ...

    def on_record_failed(self, reader: str) -> list[Action]: ...

    def tick(self, now: float) -> list[Action]: ...

    @property
    def deadline(self) -> float | None: ...


@runtime_checkable
class Chooser(Protocol):
    """A point whose screen offers something to choose; see points.kiosk."""

    def choose(self, shown: str, option: str, now: float) -> list[Action]: ...


@dataclass(slots=True)
class Seat:
    """A point and the lock that its taps, its contacts and its timers share."""

    point: Point
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class TapStats:
    """What the pages and the benches read; written by bus threads, each entry whole.

    Attributes:
        output_us: from UID known to output performed, at points that act first.
        answered_us: the same at points that record first, the durable record included.
    """

    granted: int = 0
    denied: int = 0
    unrecorded: int = 0
    output_us: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    answered_us: deque[float] = field(default_factory=lambda: deque(maxlen=4096))


class Recorder:
    """Fills the envelope of an event and hands it to the journal."""

    def __init__(
        self, gateway_id: str, boot: Callable[[], int], clock: Clock, append: Callable[[Event], Ticket]
    ) -> None:
        self._gateway_id, self._boot, self._clock, self._append = gateway_id, boot, clock, append

    def record(self, kind: Any, **fields: Any) -> Ticket:
        """Hand over one event; never waits for the disk."""
        stamp = self._clock.stamp()
        event = Event(
            gw=self._gateway_id, boot=self._boot(), at=stamp.at, clock=stamp.clock, up=stamp.up, kind=kind, **fields
        )
        return self._append(event)


class Tapline:
    """Carries the presentations of every reader.

    Args:
        site_key: None while it cannot be read; every tap is denied then. May be set at any time.
        seats: by point.
        points_of: the point of each reader.
        roster: returns the roster in force, None when there is none.
        moment: returns the site's local time and what is known of clock and roster, for a decision.
        copies: the cards that showed a sign of being a copy.
        no_roster: returns why there is no roster, where there is none.
        watch: told of every card read, after it has had its answer; may be set and taken away at any time.
    """

    def __init__(
        self,
        site_key: bytes | None,
        seats: Mapping[str, Seat],
        points_of: Mapping[str, str],
        roster: Callable[[], Roster | None],
        moment: Callable[[], Moment],
        recorder: Recorder,
        board: Switchboard,
        copies: Copies,
        on_change: Callable[[], None] = lambda: None,
        watch: Callable[[CardRead], None] | None = None,
        no_roster: Callable[[], Reason] = lambda: Reason.ROSTER_MISSING,
    ) -> None:
        self.site_key = site_key
        self._seats, self._points_of = seats, points_of
        self._roster, self._moment, self._recorder, self._board = roster, moment, recorder, board
        self._no_roster = no_roster
        self.copies = copies
        self._on_change = on_change
        self.watch = watch
        self.stats = TapStats()
        self._answers = Answers()
        self.brake = Brake(self._report_brake, time.monotonic)

    def handle(self, event: ReaderEvent) -> None:
        """Carry one reader event to its end; a fault in here is logged and never ends the bus thread."""
        if isinstance(event, CardGone):
            return
        try:
            if isinstance(event, CardSuspicion | ReaderNotice):
                point = self._points_of[event.reader]
                if isinstance(event, CardSuspicion):
                    self.copies.suspect(event.reader, event.sign, event.tail)
                self._recorder.record("reader", point=point, reader=event.reader, data=_reader_data(event))
                self._on_change()
                return
            self._carry(event)
            watch = self.watch
            if watch is not None and isinstance(event, CardRead):
                watch(event)
        except Exception:
            log.exception("a tap at reader %s could not be carried to its end", event.reader)

    def _report_brake(self, reader: str, state: str, detail: str) -> None:
        data = {"state": state, "detail": detail}
        self._recorder.record("reader", point=self._points_of[reader], reader=reader, data=data)
        self._on_change()

    def _carry(self, event: CardRead | CardRefused) -> None:
        seat = self._seats[self._points_of[event.reader]]
        roster = self._roster()
        card, reference = self._present(event, roster)
        decision = decide(card, roster, seat.point.name, self._moment(), no_roster=self._no_roster())
        if reference and decision.key:
            reference = CardRef(decision.key.hex(), reference.tail, reference.type)
        if decision.granted:
            self.stats.granted += 1
        else:
            self.stats.denied += 1
            if decision.reason is Reason.CARD_UNKNOWN and self.brake.holds(event.reader):
                return
        if seat.point.journal_first:
            self._record_then_answer(seat, event, decision, reference)
        else:
            self._answer_then_record(seat, event, decision, reference)
        self._on_change()

    def _record_then_answer(
        self, seat: Seat, event: CardRead | CardRefused, decision: Decision, card: CardRef | None
    ) -> None:
        ticket = self._record_tap(seat.point.name, event, decision, card)
        self._answers.answer_when_kept(ticket, lambda kept, why: self._answer(seat, event, decision, kept, why))

    def _answer(self, seat: Seat, event: CardRead | CardRefused, decision: Decision, kept: bool, why: str) -> None:
        records: list[Record] = []
        if not kept:
            self.stats.unrecorded += 1
            log.warning("a tap at %s is not recorded in time and not served: %s", seat.point.name, why)
            self.perform(seat.point.on_record_failed(event.reader), records)
            # The tap says what was decided; without this the register would read as if the person had been served.
            body = {"what": "tap_not_served", "why": why, "reader": event.reader}
            self._recorder.record("system", point=seat.point.name, system=body)
            self._on_change()
            return
        with seat.lock:
            self.perform(seat.point.on_decision(event.reader, decision, time.monotonic()), records)
        self.stats.answered_us.append((time.monotonic_ns() - event.seen_ns) / 1e3)
        for record in records:
            self.record(record)
        self._on_change()

    def choose(self, point: str, shown: str, option: str) -> bool:
        """Let a kiosk replace the movement on its screen by what the person chose; return whether it did."""
        seat = self._seats.get(point)
        if seat is None or not isinstance(seat.point, Chooser):
            return False
        chooser = seat.point
        is_chosen = self.work(seat, lambda: chooser.choose(shown, option, time.monotonic()))
        self._on_change()
        return is_chosen

    def work(self, seat: Seat, decide: Callable[[], Sequence[Action]]) -> bool:
        """Perform what a point decides and write what it asks for; return whether it asked for a record."""
        records: list[Record] = []
        # Outputs are driven under the same lock as the state, so that a relock never overtakes a later unlock.
        with seat.lock:
            self.perform(decide(), records)
        for record in records:
            self.record(record)
        return bool(records)

    def finish(self) -> None:
        """Wait until the taps under way are answered; at most as long as a record may take."""
        self._answers.finish()

    def _answer_then_record(
        self, seat: Seat, event: CardRead | CardRefused, decision: Decision, card: CardRef | None
    ) -> None:
        records: list[Record] = []
        with seat.lock:
            failures = self.perform(seat.point.on_decision(event.reader, decision, time.monotonic()), records)
        self.stats.output_us.append((time.monotonic_ns() - event.seen_ns) / 1e3)
        self._record_tap(seat.point.name, event, decision, card)
        for record in records:
            self.record(record)
        for why in failures:
            self._recorder.record("system", point=seat.point.name, system={"what": "output_failed", "why": why})

    def perform(self, actions: Sequence[Action], records: list[Record]) -> list[str]:
        """Perform actions in order; Records are put aside into `records` for after the hands have moved.

        Returns:
            Why outputs failed, one sentence each.
        """
        failures = []
        for action in actions:
            if isinstance(action, Record):
                records.append(action)
                continue
            outcome = self._board.perform(action)
            if isinstance(outcome, Failed):
                failures.append(outcome.why)
        return failures

    def record(self, record: Record) -> Ticket:
        """Write the event that a point asked for; a person in its content becomes the event's person."""
        content = dict(record.content)
        person = {"person": content.pop("person")} if "person" in content else {}
        return self._recorder.record(record.kind, point=record.point, **person, **{record.kind: content})

    def _record_tap(
        self, point: str, event: CardRead | CardRefused, decision: Decision, card: CardRef | None
    ) -> Ticket:
        return self._recorder.record(
            "tap",
            point=point,
            reader=event.reader,
            card=card,
            person=decision.person,
            decision="granted" if decision.granted else "denied",
            reason=str(decision.reason),
            rule=decision.rule,
            roster=decision.roster,
            took_us=(time.monotonic_ns() - event.seen_ns) // 1000,
        )

    def _present(self, event: CardRead | CardRefused, roster: Roster | None) -> tuple[Presentation, CardRef | None]:
        if isinstance(event, CardRefused):
            return Presentation(refused=Reason(event.reason)), None
        site_key = self.site_key
        if site_key is None:
            return Presentation(refused=Reason.SITE_KEY_MISSING), None
        keys = tuple(card_key(site_key, form) for form in _forms(event.number, roster))
        looks_copied = self.copies.holds(keys)
        self.copies.was_read(event.reader, event.number.tail, keys)
        return Presentation(keys, looks_copied=looks_copied), CardRef(keys[0].hex(), event.number.tail, event.card_type)


def _reader_data(event: CardSuspicion | ReaderNotice) -> dict[str, Any]:
    if isinstance(event, ReaderNotice):
        return {"state": event.state, "detail": event.detail}
    return {"state": "suspicion", "sign": event.sign, "tail": event.tail}


def _forms(number: CardNumber, roster: Roster | None) -> list[CardNumber]:
    """Return the number in every projection that the roster uses, the reader's own first."""
    forms = [number]
    if roster is not None:
        others = (project(number, name) for name in roster.projections if name != number.projection)
        forms += [form for form in others if form is not None]
    return forms
