"""Pulses of a Wiegand reader: edges with the kernel's time stamps to words.

A reader pulls D0 low for a zero and D1 for a one, 20 to 200 us long and 0.2 to 20 ms apart, and is silent between two
words. Law of this file: the times of the edges decide what belongs together, so it does not matter when they are read.
An edge that no reader makes, on both wires at once or too soon after the one before, and edges that the kernel has lost
spoil their word whole: which of them was real nobody can know.

    struct gpio_v2_line_event, 48 bytes: time stamp u64, id u32, offset u32, number u32, number on its line u32, padding
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

RECORD = struct.Struct("=QIIII24x")
FALLING = 2
# Shorter than any reader's distance between two pulses; ringing on long wires comes sooner.
_SHORTEST_NS = 60_000
_LONGEST_BITS = 128
KEY_BITS = frozenset({4, 6, 8})
"""Lengths of key presses at readers with a keypad."""
_NUMBERS = 1 << 32
_LOST = "edges were lost"


@dataclass(frozen=True, slots=True)
class Word:
    """One word; the first bit on the wire is the top one of `bits`."""

    value: int
    bits: int
    seen_ns: int

    def __repr__(self) -> str:
        return f"Word({self.bits} bits)"


@dataclass(frozen=True, slots=True)
class Spoilt:
    """Edges that were no word; `why` is one phrase."""

    why: str
    bits: int
    seen_ns: int


class PulseParser:
    """Incremental: the words do not depend on how the records were cut into pieces, nor on when they came.

    Args:
        d0: the line offset of the wire for zeros; `d1` of that for ones.
        gap_ns: silence that ends a word.
    """

    def __init__(self, d0: int, d1: int, gap_ns: int) -> None:
        self._d0, self._d1 = d0, d1
        self._gap_ns = gap_ns
        self._rest = b""
        self._number: int | None = None
        self.reset()

    def reset(self) -> None:
        """Forget what has come; the next record is the first of its request."""
        self._rest = b""
        self._number = None
        self._begin()

    def _begin(self) -> None:
        self._value = self._bits = 0
        self._last_ns = 0
        self._last_line = -1
        self._why = ""

    @property
    def waiting(self) -> bool:
        """Return whether part of a word has come."""
        return self._bits > 0

    def feed(self, records: bytes) -> list[Word | Spoilt]:
        """Take whole or cut records of the kernel."""
        events: list[Word | Spoilt] = []
        data = self._rest + records
        whole = len(data) // RECORD.size * RECORD.size
        self._rest = data[whole:]
        for time_ns, edge, line, number, _ in RECORD.iter_unpack(data[:whole]):
            has_lost = self._number is not None and number != (self._number + 1) % _NUMBERS
            self._number = number
            if has_lost and self._bits:
                self._spoil(_LOST)
            if self._bits and time_ns > self._last_ns + self._gap_ns:
                events.append(self._end())
            if has_lost:
                # They may have been the end of the word before as well as the beginning of this one.
                self._spoil(_LOST)
            if edge == FALLING and line in {self._d0, self._d1}:
                self._take(time_ns, line)
        return events

    def _take(self, time_ns: int, line: int) -> None:
        if self._last_line >= 0 and time_ns < self._last_ns + _SHORTEST_NS:
            self._spoil("pulses on both wires at once" if line != self._last_line else "pulses too close together")
        self._last_ns, self._last_line = max(time_ns, self._last_ns), line
        if self._bits == _LONGEST_BITS:
            self._spoil("too many bits")
            return
        self._value = self._value << 1 | (line == self._d1)
        self._bits += 1

    def _spoil(self, why: str) -> None:
        self._why = self._why or why

    def idle(self, now_ns: int) -> list[Word | Spoilt]:
        """Note that all records so far have been fed."""
        return [self._end()] if self._bits and now_ns > self._last_ns + self._gap_ns else []

    def _end(self) -> Word | Spoilt:
        value, bits, why, seen_ns = self._value, self._bits, self._why, self._last_ns
        self._begin()
        return Spoilt(why, bits, seen_ns) if why else Word(value, bits, seen_ns)


def record(time_ns: int, line: int, number: int, edge: int = FALLING) -> bytes:
    """Return a record as the kernel writes it."""
    return RECORD.pack(time_ns, edge, line, number % _NUMBERS, number % _NUMBERS)
