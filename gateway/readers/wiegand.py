"""Wiegand readers on two pins of the header, by the kernel's edge events.

    port             `gpiochip:header` for the pins of a Raspberry Pi's header, `gpiochip:LABEL` or /dev/gpiochipN for
                     another controller; readers of one controller share it, each with pins of its own
    numbers          words of 26, 34, 35, 37, 48 and 58 bits with their parity; other lengths when `bits` lists them
    card gone        never reported
    LED, buzzer      no
    keypad           counted only: what is typed may be a PIN

Wires of such readers carry 5 V: put a level shifter or a divider between, the pins take 3.3 V.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.access.rules import Reason
from gateway.cards.identity import TECHNOLOGIES
from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.cards.wiegand import CHECKED_BITS, LONGEST_BITS, SHORTEST_BITS, has_agreed_parity, number_of
from gateway.errors import BadCardNumber, ConfigError, ReaderOffline
from gateway.points.actions import Signal
from gateway.protocols.wiegand_pulses import KEY_BITS, PulseParser, Spoilt, Word
from gateway.readers.base import CardRefused, ReaderEvent, Transports, Vitals
from gateway.readers.judge import judge_number
from gateway.transports.gpio_edges import EdgeLines

_WAIT_SECONDS = 0.02
_STALE_NS = 1_000_000_000
_DROPS_KEPT = 32
_PROPOSALS = {
    "pulses on both wires at once": "a common ground for reader and gateway, and shielded wires",
    "pulses too close together": "shorter or shielded wires, 1 kOhm to 3.3 V at each",
    "edges were lost": "fewer other programs on the gateway; its board is too busy",
}


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a wiegand reader.

    Attributes:
        d0_gpio: the pin of D0 (often green), a BCM number on a Raspberry Pi; required.
        d1_gpio: the pin of D1 (often white); required.
        bits: lengths that the reader sends, such as [26, 37]; empty takes all lengths with an agreed parity.
        check_parity: false takes words of 35, 37 and 48 bits whose parity is of another form, as bare words.
        bit_order: `lsb` when the reader sends the last byte of a UID first.
        technology: of the cards, as for osdp.
        word_gap_ms: silence that ends a word.
        repeat_ms: the reader repeats its word while a card rests; the same word within this time is one tap.
    """

    d0_gpio: Any = None
    d1_gpio: Any = None
    bits: list[int] = field(default_factory=list, metadata={"type": list})
    check_parity: bool = True
    bit_order: str = "msb"
    technology: str = ""
    word_gap_ms: float = 25.0
    repeat_ms: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            f"{key}: must be the number of a pin"
            for key in ("d0_gpio", "d1_gpio")
            if type(getattr(self, key)) is not int or getattr(self, key) < 0
        ]
        if not problems and self.d0_gpio == self.d1_gpio:
            problems.append("d1_gpio: is the pin of d0_gpio too")
        if not all(type(item) is int and SHORTEST_BITS <= item <= LONGEST_BITS for item in self.bits):
            problems.append(f"bits: must be a list of numbers from {SHORTEST_BITS} to {LONGEST_BITS}")
        if self.bit_order not in {"msb", "lsb"}:
            problems.append("bit_order: must be msb or lsb")
        if self.technology and self.technology not in TECHNOLOGIES:
            problems.append(f"technology: must be one of {', '.join(TECHNOLOGIES)}")
        for key, low, high in (("word_gap_ms", 5, 200), ("repeat_ms", 0, 60_000)):
            if not low <= getattr(self, key) <= high:
                problems.append(f"{key}: must be from {low} to {high}")
        if problems:
            raise ConfigError(problems)


class WiegandReader:
    """Reader over a PulseParser."""

    def __init__(
        self, name: str, lines: EdgeLines, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = 0.0
        self._lines = lines
        self._options = options
        self._now_ns = now_ns
        self._parser = PulseParser(options.d0_gpio, options.d1_gpio, int(options.word_gap_ms * 1e6))
        self._last: tuple[object, int] = (None, 0)
        self._drops: deque[str] = deque(maxlen=_DROPS_KEPT)

    def open(self) -> None:
        again = self.vitals.state != "starting"
        try:
            self._lines.open()
        except ReaderOffline as error:
            self._lines.close()
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        self._parser.reset()
        self.vitals.reopens += again
        self.vitals.state, self.vitals.detail = "ready", "listening"

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        try:
            before_ns = self._now_ns()
            records = self._lines.read(_WAIT_SECONDS)
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        now_ns = self._now_ns()
        words = self._parser.feed(records)
        if not records:
            # Nothing has come since before the read began; what comes now has a later time.
            words += self._parser.idle(before_ns)
        return [event for word in words for event in self._judge(word, now_ns)]

    def _judge(self, word: Word | Spoilt, now_ns: int) -> list[ReaderEvent]:
        if isinstance(word, Spoilt):
            self._drop(word.why, word.bits)
            return []
        if word.bits in KEY_BITS:
            self._count("keys")
            return []
        if now_ns - word.seen_ns > _STALE_NS:
            # A late tap could open a door.
            self._count("stale")
            return []
        if word.bits < SHORTEST_BITS:
            self._drop("too few bits", word.bits)
            return []
        if self._is_repeat((word.value, word.bits), now_ns):
            return []
        return [self._event(word, now_ns)]

    def _event(self, word: Word, now_ns: int) -> ReaderEvent:
        options = self._options
        known = ", ".join(map(str, options.bits or CHECKED_BITS))
        if word.bits not in (options.bits or CHECKED_BITS):
            self.vitals.refused += 1
            return self._refused(
                f"This word has {word.bits} bits, expected are {known}; if it sends whole words, add that to bits.",
                now_ns,
            )
        if options.check_parity and has_agreed_parity(word.value, word.bits) is False:
            self.vitals.errors += 1
            self.vitals.dropped += 1
            return self._refused(
                f"The parity of a word of {word.bits} bits is wrong; check both wires, their ground and shield.", now_ns
            )
        value = word.value
        if options.bit_order == "lsb" and not word.bits % 8:
            value = int.from_bytes(value.to_bytes(word.bits // 8, "big"), "little")
        try:
            number = number_of(value, word.bits, options.technology)
        except BadCardNumber as error:
            self.vitals.refused += 1
            return self._refused(str(error), now_ns)
        return judge_number(self.name, number, UNKNOWN_TYPE, now_ns)

    def _refused(self, detail: str, now_ns: int) -> CardRefused:
        self.vitals.detail = self.vitals.proposal = detail
        return CardRefused(self.name, Reason.CARD_FORMAT, detail, now_ns)

    def _is_repeat(self, word: object, now_ns: int) -> bool:
        last, last_ns = self._last
        self._last = (word, now_ns)
        if word == last and now_ns - last_ns < self._options.repeat_ms * 1e6:
            return True
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        return False

    def _drop(self, why: str, bits: int) -> None:
        self.vitals.errors += 1
        self.vitals.dropped += 1
        self.vitals.detail = f"Dropped a word of {bits} bits: {why}."
        self.vitals.proposal = _PROPOSALS.get(why, "the wires: one of the two may be loose or swapped")
        self._drops.append(f"{self.vitals.detail} Try: {self.vitals.proposal}.")
        self._count(why)

    def take_drops(self) -> list[str]:
        """Return a sentence for each word that was dropped since the last call, the newest of many."""
        drops = list(self._drops)
        self._drops.clear()
        return drops

    def _count(self, name: str) -> None:
        self.vitals.counters[name] = self.vitals.counters.get(name, 0) + 1

    def signal(self, signal: Signal) -> bool:
        del signal
        return False

    def close(self) -> None:
        self._lines.close()


def make(name: str, port: str, options: Options, transports: Transports) -> WiegandReader:
    return WiegandReader(
        name, transports.edge_lines(port, (options.d0_gpio, options.d1_gpio)), options, transports.now_ns
    )
