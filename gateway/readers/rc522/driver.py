"""MFRC522 on SPI: our own driver, one system call a radio frame.

    4, 7 and 10-byte UIDs      yes, full cascade, BCC and CRC_A checked
    numbers in the card        MIFARE Classic sectors, NTAG pages, DESFire files, true UIDs of DESFires that hide them
    several cards at once      yes, one after the other
    a new card beside a resting one   yes, at the next cycle
    LED, buzzer                no

A card that was read is sent to HALT. While cards rest in the field most looks are REQA, which only newcomers answer;
a few times within the rearm time a WUPA with the SELECT of a known card tells whether it still lies there, so that
presence is a level.

Where readers share a bus their looks run at the same time (`look`); where their antennas are close (`antenna_group`)
the owner gives them the field in turn. A card that rests while its field is off starts again from IDLE: it answers the
next REQA, is known, and stays the presentation that it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from gateway.access.rules import Reason
from gateway.cards.desfire import KEY_BYTES as DESFIRE_KEY_BYTES
from gateway.cards.iso14443 import card_type
from gateway.cards.mifare_classic import FACTORY_KEY
from gateway.cards.uid import RANDOM_ID
from gateway.errors import BadCardNumber, ReaderOffline
from gateway.points.actions import Signal
from gateway.protocols.mfrc522 import CHIPS, Health
from gateway.readers.base import CardGone, CardRead, CardRefused, Look, ReaderEvent, Transports, Vitals
from gateway.readers.judge import judge_uid
from gateway.readers.presence import Presence
from gateway.readers.rc522.chip import ChipFault, Rc522Chip
from gateway.readers.rc522.clones import CloneCheck
from gateway.readers.rc522.content import BUDGET_MS, Budget, CardLost, read_number
from gateway.readers.rc522.frames import InParts
from gateway.readers.rc522.line import FIELD_RISE_SECONDS
from gateway.readers.rc522.options import Options
from gateway.readers.rc522.place import DESFIRE_CREDENTIALS, Place, read_key

__all__ = ["Options", "Rc522Reader", "make"]

_HEALTH_NS = 1_000_000_000
_BUSY_NS = 10_000_000_000
_FORGET_NS = 5_000_000_000
_LOST_AGAIN_NS = 500_000_000
_TRIES = 3
_RANDOM = b"random"


class Rc522Reader:
    """Reader over an Rc522Chip.

    Args:
        now_ns: the clock of seen_ns and of all waits, CLOCK_MONOTONIC outside of tests.
    """

    def __init__(
        self, name: str, chip: Rc522Chip, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.name = name
        self.vitals = Vitals()
        self._chip = chip
        self._options = options
        self._now_ns = now_ns
        self._place: Place | None = None
        self._presence = Presence(options.rearm_ms)
        self._next_health_ns = 0
        self._polled_ns = 0
        self._busy_until_ns = 0
        # Often enough for three misses within the rearm time; the looks between are for newcomers, and cheap.
        self._resting_ns = int(options.rearm_ms * 1e6) // 3
        self._next_resting_ns = 0
        self._turn = 0
        self._lost = b""
        self._lost_ns = 0
        self._clones = CloneCheck(name, chip, now_ns) if options.clone_check else None
        self._random_uid = b""
        self._irq_fault = ""
        self.antenna_group = options.antenna_group
        self.answered = False

    def open(self) -> None:
        started_before = self.vitals.state != "starting"
        if self._options.credential != "uid":
            self._place = self._options.place(self._read_key())
        try:
            health = self._chip.start()
        except ReaderOffline as error:
            self._set_state("offline", str(error))
            raise
        self._forget_old_cards()
        if health.fault:
            self._set_state("faulty", f"After its start {health.fault}.")
            raise ReaderOffline(f"Reader {self.name}: after its start {health.fault}; check its supply and wiring.")
        self.vitals.reopens += started_before
        self.vitals.firmware = CHIPS.get(health.version, f"unknown chip {health.version:02X}")
        now_ns = self._now_ns()
        self._next_health_ns = now_ns + _HEALTH_NS
        self._busy_until_ns = now_ns + _BUSY_NS
        clone = health.version not in {0x91, 0x92}
        self._set_ready(f"{self.vitals.firmware} at {self._chip.speed_hz} Hz" + (", a clone" if clone else ""))

    def _read_key(self) -> bytes:
        of_desfire = self._options.credential in DESFIRE_CREDENTIALS
        if self._options.key_file:
            return read_key(self._options.key_file, DESFIRE_KEY_BYTES if of_desfire else len(FACTORY_KEY))
        return b"" if of_desfire else FACTORY_KEY

    def _forget_old_cards(self) -> None:
        # A card that rests through a short outage must not tap again; after a long one that is unknown.
        now_ns = self._now_ns()
        for card in self._presence.cards:
            if now_ns - self._presence.last_seen_ns(card) > _FORGET_NS:
                self._presence.forget(card)

    def poll(self) -> list[ReaderEvent]:
        self._chip.in_parts = False
        return self._chip.run(self._cycle())

    def look(self) -> Look:
        self._chip.in_parts = True
        return self._cycle()

    def field(self, *, on: bool) -> float:
        self._chip.field(on=on)
        return FIELD_RISE_SECONDS if on else 0.0

    def _cycle(self) -> Look:
        self.vitals.polls += 1
        self.answered = False
        events: list[ReaderEvent] = []
        try:
            self._polled_ns = self._now_ns()
            if self._polled_ns >= self._next_health_ns:
                self._check_health()
            yield from self._look(events)
            if self._clones and not events:
                # A look that found no card has time for it; the next card is delayed by one question at most.
                events += self._clones.ask()
        except ChipFault:
            self._check_health(suspect=True)
        return events

    def _look(self, events: list[ReaderEvent]) -> InParts[None]:
        if not len(self._presence):
            answer = yield from self._chip.wake_up_in_parts()
            if answer is not None:
                yield from self._select_new(events, answer.data, only_new=False)
            return
        now_ns = self._now_ns()
        if now_ns >= self._next_resting_ns:
            self._next_resting_ns = now_ns + self._resting_ns // len(self._presence)
            # The same look polls for new cards: at the idle pace every look is one for resting cards.
            is_somebody_there = yield from self._look_for_resting(events)
            if not is_somebody_there:
                return
        answer = yield from self._chip.wake_up_in_parts(only_new=True)
        if answer is not None:
            yield from self._select_new(events, answer.data, only_new=True)

    def _select_new(self, events: list[ReaderEvent], atqa: bytes, *, only_new: bool) -> InParts[None]:
        self.answered = True
        for tries_left in reversed(range(_TRIES)):
            walk = yield from self._chip.select_any_in_parts()
            if walk.collisions:
                self._count("collisions")
            if walk.sak is not None:
                is_new = self._found(walk.uid, card_type(atqa, walk.sak), walk.sak, events)
                if is_new and self._clones:
                    self._clones.suspect(walk.uid, b"" if walk.collisions else atqa, walk.sak)
                return
            self.vitals.retries += 1
            self._count(walk.failed)
            # A card at the edge of the field often answers the second time.
            answer = (yield from self._chip.wake_up_in_parts(only_new=only_new)) if tries_left else None
            if answer is None:
                return
            atqa = answer.data

    def _found(self, raw: bytes, kind: str, sak: int, events: list[ReaderEvent]) -> bool:
        now_ns = self._now_ns()
        self._busy_until_ns = now_ns + _BUSY_NS
        card = self._known_as(raw)
        if not self._presence.seen(card, now_ns):
            return False
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        if self._place is None:
            events.append(judge_uid(self.name, raw, kind, now_ns))
            return True
        try:
            budget = Budget(self._now_ns, self._polled_ns + BUDGET_MS * 1_000_000)
            number = read_number(self._chip, self._place, raw, sak, budget)
        except (ChipFault, ReaderOffline):
            self._presence.forget(card)
            raise
        except CardLost as error:
            self._card_lost(card, str(error), events)
        except BadCardNumber as error:
            events.append(CardRefused(self.name, Reason.CARD_FORMAT, str(error), self._now_ns()))
        else:
            events.append(CardRead(self.name, number, kind, self._now_ns()))
        return True

    def _known_as(self, raw: bytes) -> bytes:
        """Return what a card is known by while it rests; a phone draws another random UID after each loss of field."""
        if not self.antenna_group or len(raw) != 4 or raw[0] != RANDOM_ID:
            return raw
        self._random_uid = raw
        return _RANDOM

    def _card_lost(self, card: bytes, why: str, events: list[ReaderEvent]) -> None:
        self._presence.forget(card)
        self._count("lost")
        now_ns = self._now_ns()
        # At the edge of the field a card comes and goes many times a second; report it once.
        if self._lost != card or now_ns - self._lost_ns > _LOST_AGAIN_NS:
            events.append(CardRefused(self.name, Reason.CARD_FORMAT, why, now_ns))
        self._lost, self._lost_ns = card, now_ns

    def _look_for_resting(self, events: list[ReaderEvent]) -> InParts[bool]:
        """Check whether one of the present cards is still there; return whether any card answered."""
        cards = self._presence.cards
        answer = yield from self._chip.wake_up_in_parts()
        if answer is None:
            looked_for: tuple[bytes, ...] = cards
        else:
            self._turn += 1
            card = cards[self._turn % len(cards)]
            is_there = yield from self._chip.select_known_in_parts(self._random_uid if card is _RANDOM else card)
            if is_there:
                self._presence.seen(card, self._now_ns())
                return True
            looked_for = (card,)
        now_ns = self._now_ns()
        self._busy_until_ns = now_ns + _BUSY_NS
        events += [CardGone(self.name, now_ns) for card in looked_for if self._presence.missed(card, now_ns)]
        return answer is not None

    def _check_health(self, *, suspect: bool = False) -> None:
        health = self._chip.health()
        if not health.fault and suspect:
            # The frame did not run although the chip looks healthy: restart it.
            self.vitals.errors += 1
        if health.fault or suspect:
            health = self._repair(health.fault or "a frame did not run")
        elif self._chip.irq_fault != self._irq_fault:
            self._count("interrupt pin lost")
            self._set_ready(self.vitals.firmware)
        self._next_health_ns = self._now_ns() + _HEALTH_NS
        if health.fault:
            self._set_state("offline", f"After a reset {health.fault}.")
            raise ReaderOffline(f"Reader {self.name}: after a reset {health.fault}; check its supply and wiring.")

    def _repair(self, why: str) -> Health:
        self.vitals.resets += 1
        self._set_state("degraded", f"The chip was set up again: {why}.")
        try:
            health = self._chip.configure()
        except ReaderOffline as error:
            self._set_state("offline", str(error))
            raise
        self._polled_ns = self._now_ns()  # what a repair takes is not the time of the card that comes next
        if not health.fault:
            self._set_ready(f"{self.vitals.firmware}; last reset because {why}")
        return health

    def _set_ready(self, detail: str) -> None:
        self._irq_fault = self._chip.irq_fault
        self._set_state("ready", detail + (f"; irq_gpio is not used: {self._irq_fault}" if self._irq_fault else ""))

    def _count(self, name: str) -> None:
        self.vitals.counters[name] = self.vitals.counters.get(name, 0) + 1

    def _set_state(self, state: str, detail: str) -> None:
        self.vitals.state, self.vitals.detail = state, detail

    @property
    def pause_seconds(self) -> float:
        busy = self._polled_ns < self._busy_until_ns
        return (self._options.poll_ms if busy else self._options.idle_poll_ms) / 1000

    def self_test(self) -> bool | None:
        """Run the chip's digital self-test between two polls; None when its version has no published answer.

        Raises:
            ReaderOffline: the chip is gone.
        """
        return self._chip.self_test()

    def signal(self, signal: Signal) -> bool:  # noqa: ARG002  # the chip has no lamp
        return False

    def close(self) -> None:
        if self.antenna_group:
            # A reader that is no longer polled must not disturb the others.
            with contextlib.suppress(ReaderOffline):
                self._chip.field(on=False)
        self._chip.close()


def make(name: str, port: str, options: Options, transports: Transports) -> Rc522Reader:
    reset = None if options.reset_gpio is None else transports.reset_line(options.reset_gpio)
    irq = None if options.irq_gpio is None else transports.irq_line(options.irq_gpio)
    wire = transports.spi(port, options.speed_hz)
    chip = Rc522Chip(wire, options.speed_hz, reset, now_ns=transports.now_ns, irq=irq)
    return Rc522Reader(name, chip, options, transports.now_ns)
