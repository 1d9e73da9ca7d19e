"""Readers that print one line of text a tap: Elatec TWN3/TWN4 standard, RF IDeas pcProx, Promag and most others.

number forms     every encoding of cards.encodings
card gone        never said; one line is one tap
restart banner   dropped and counted
LED, buzzer      no, such readers answer by themselves
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.access.rules import Reason
from gateway.cards.encodings import check_encoding, decode
from gateway.errors import BadCardNumber, ConfigError, ReaderOffline
from gateway.points.actions import Signal
from gateway.protocols.line import KNOWN_BANNERS, Banner, Line, LineEvent, LineForm, LineParser
from gateway.readers.base import CardRead, CardRefused, ReaderEvent, Transports, Vitals
from gateway.transports.serial import SerialTransport

_WAIT_SECONDS = 0.05
_STALE_NS = 1_000_000_000
_BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a serial-line reader.

    Attributes:
        encoding: how the reader prints a card number, a name or chain of cards.encodings.
        pattern: regular expression for the text between prefix and suffix; its first group is the number.
        banner: regular expression for what the reader prints when it starts.
        idle_gap_ms: silence that ends a line or spoils a partial one.
        ends_by_silence: the reader sends no CR or LF.
        repeat_ms: the reader repeats its line while a card rests; the same line within this time is one tap.
    """

    baud: int = 9600
    encoding: str = "hex-msb"
    prefix: str = ""
    suffix: str = ""
    pattern: str = ""
    banner: str = KNOWN_BANNERS
    idle_gap_ms: float = 60.0
    ends_by_silence: bool = False
    repeat_ms: float = 0.0
    max_bytes: int = 64

    def __post_init__(self) -> None:
        problems = []
        if self.baud not in _BAUDS:
            problems.append(f"baud: must be one of {', '.join(map(str, _BAUDS))}")
        try:
            check_encoding(self.encoding)
        except BadCardNumber as error:
            problems.append(f"encoding: {error}")
        for key in ("pattern", "banner"):
            try:
                re.compile(getattr(self, key))
            except re.error as error:
                problems.append(f"{key}: is not a regular expression ({error})")
        bounds = {"idle_gap_ms": (5, 2000), "repeat_ms": (0, 60_000), "max_bytes": (4, 512)}
        for key, (low, high) in bounds.items():
            if not low <= getattr(self, key) <= high:
                problems.append(f"{key}: must be from {low} to {high}")
        if problems:
            raise ConfigError(problems)


class SerialLineReader:
    """Reader over a LineParser.

    Args:
        now_ns: the clock of seen_ns and of the gaps, CLOCK_MONOTONIC outside of tests.
    """

    def __init__(
        self,
        name: str,
        transport: SerialTransport,
        options: Options,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = 0.0
        self._transport = transport
        self._options = options
        self._now_ns = now_ns
        self._parser = LineParser(
            LineForm(
                options.prefix,
                options.suffix,
                options.pattern,
                options.banner,
                options.ends_by_silence,
                options.max_bytes,
            )
        )
        self._idle_gap_ns = int(options.idle_gap_ms * 1e6)
        self._last_byte_ns = 0
        self._last_poll_ns = 0
        self._last_line: tuple[str, int] = ("", 0)

    def open(self) -> None:
        again = self.vitals.state != "starting"
        try:
            self._transport.open()
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        self._parser.reset()
        self._last_poll_ns = self._now_ns()
        self.vitals.reopens += again
        self.vitals.state = "ready"
        self.vitals.detail = f"{self._options.baud} baud, prints {self._options.encoding}"

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        stalled = self._now_ns() - self._last_poll_ns > _STALE_NS
        gap_seconds = self._options.idle_gap_ms / 1000
        wait = min(_WAIT_SECONDS, gap_seconds) if self._parser.waiting else _WAIT_SECONDS
        try:
            data = self._transport.read(wait)
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        now_ns = self._last_poll_ns = self._now_ns()
        if stalled and data:
            # Nobody knows how old these taps are; a late one could open a door or charge the wrong child.
            self._parser.reset()
            self._count("stale")
            return []
        events = []
        if now_ns - self._last_byte_ns > self._idle_gap_ns:
            events += self._parser.idle()
        if data:
            self._last_byte_ns = now_ns
            events += self._parser.feed(data)
        return [made for event in events if (made := self._judge(event, now_ns))]

    def _judge(self, event: LineEvent, now_ns: int) -> ReaderEvent | None:
        if isinstance(event, Line):
            return self._tap(event.text, now_ns)
        if isinstance(event, Banner):
            self.vitals.resets += 1
            self.vitals.detail = "The reader has restarted; check its supply when this repeats."
        else:
            self.vitals.errors += 1
            self.vitals.detail = f"Dropped {event.length} bytes: {event.why}."
            self._count(event.why)
        return None

    def _tap(self, text: str, now_ns: int) -> ReaderEvent | None:
        last, last_ns = self._last_line
        self._last_line = (text, now_ns)
        if text == last and now_ns - last_ns < self._options.repeat_ms * 1e6:
            return None
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        try:
            number = decode(text, self._options.encoding)
        except BadCardNumber as error:
            self.vitals.errors += 1
            return CardRefused(self.name, Reason.CARD_FORMAT, str(error), now_ns)
        if number.is_random:
            detail = "The card draws a new number at every tap, as phones do; it cannot stand for a person."
            return CardRefused(self.name, Reason.CARD_RANDOM_UID, detail, now_ns)
        return CardRead(self.name, number, "unknown", now_ns)

    def _count(self, name: str) -> None:
        self.vitals.counters[name] = self.vitals.counters.get(name, 0) + 1

    def signal(self, signal: Signal) -> bool:  # noqa: ARG002  # nothing is ever sent to such a reader
        return False

    def close(self) -> None:
        self._transport.close()


def make(name: str, port: str, options: Options, transports: Transports) -> SerialLineReader:
    return SerialLineReader(name, transports.serial(port, options.baud), options)
