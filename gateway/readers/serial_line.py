"""Readers that print one line of text a tap: Elatec TWN3/TWN4 standard, RF IDeas pcProx, Promag and most others.

number forms     every encoding of cards.encodings
card gone        never said; one line is one tap
restart banner   dropped and counted
LED, buzzer      no, such readers answer by themselves
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.cards.encodings import check_encoding
from gateway.errors import BadCardNumber, ConfigError
from gateway.protocols.line import KNOWN_BANNERS, Banner, Line, LineEvent, LineForm, LineParser
from gateway.readers.base import CardRefused, ReaderEvent, Transports
from gateway.readers.judge import judge_text
from gateway.readers.serial_base import TalkingReader, option_problems
from gateway.transports.serial import SerialTransport


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
        bounds = {"idle_gap_ms": (5.0, 2000.0), "repeat_ms": (0.0, 60_000.0), "max_bytes": (4.0, 512.0)}
        problems = option_problems(self, bounds)
        try:
            check_encoding(self.encoding)
        except BadCardNumber as error:
            problems.append(f"encoding: {error}")
        for key in ("pattern", "banner"):
            try:
                re.compile(getattr(self, key))
            except re.error as error:
                problems.append(f"{key}: is not a regular expression ({error})")
        if problems:
            raise ConfigError(problems)


class SerialLineReader(TalkingReader[LineEvent]):
    """Reader over a LineParser."""

    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        form = LineForm(
            options.prefix, options.suffix, options.pattern, options.banner, options.ends_by_silence, options.max_bytes
        )
        super().__init__(name, transport, LineParser(form), options.idle_gap_ms, options.repeat_ms, now_ns)
        self._encoding = options.encoding

    def _judge(self, frame: LineEvent, now_ns: int) -> Iterable[ReaderEvent]:
        if isinstance(frame, Line):
            if self._is_repeat(frame.text, now_ns):
                return
            event = judge_text(self.name, frame.text, self._encoding, now_ns)
            self.vitals.errors += isinstance(event, CardRefused)
            yield event
        elif isinstance(frame, Banner):
            self.vitals.resets += 1
            self.vitals.detail = "The reader has restarted; check its supply when this repeats."
        else:
            self._drop(frame.why, frame.length)


def make(name: str, port: str, options: Options, transports: Transports) -> SerialLineReader:
    return SerialLineReader(name, transports.serial(port, options.baud), options, transports.now_ns)
