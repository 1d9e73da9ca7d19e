"""Readers that print one line of text a tap: Elatec TWN3/TWN4 standard, RF IDeas pcProx, Promag and most others.

number forms     every encoding of cards.encodings
card gone        never reported; one line is one tap
restart banner   dropped and counted
LED, buzzer      no, such readers answer by themselves
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.errors import ConfigError
from gateway.protocols.line import KNOWN_BANNERS, Banner, Dropped, Line, LineEvent, LineForm, LineParser, frame_bytes
from gateway.readers.base import CardRefused, ReaderEvent, Transports
from gateway.readers.serial_base import TalkingReader, framing_of, option_problems
from gateway.readers.text_form import TextForm, TextOptions
from gateway.transports.serial import SerialTransport


@dataclass(frozen=True, slots=True)
class Options(TextOptions):
    """Settings of a serial-line reader, beside those of text_form.TextOptions.

    Attributes:
        parity: `none`, `even` or `odd`; a byte with a wrong one spoils its line.
        data_bits: 7 or 8; stop_bits 1 or 2.
        start: bytes before every line, such as `STX`, `:` or `0x02`; a line without them is dropped.
        end: bytes that end a line in place of CR or LF, such as `ETX`, `NUL` or `CR LF ETX`. With neither start nor
            end, text between STX and ETX is taken as well.
        banner: regular expression for what the reader prints when it starts.
        idle_gap_ms: silence that ends a line or spoils a partial one.
        ends_by_silence: the reader sends no CR or LF.
        repeat_ms: the reader repeats its line while a card rests; the same line within this time is one tap.
    """

    baud: int = 9600
    parity: str = "none"
    data_bits: int = 8
    stop_bits: int = 1
    start: str = ""
    end: str = ""
    banner: str = KNOWN_BANNERS
    idle_gap_ms: float = 60.0
    ends_by_silence: bool = False
    repeat_ms: float = 0.0
    max_bytes: int = 64

    def __post_init__(self) -> None:
        bounds = {"idle_gap_ms": (5.0, 2000.0), "repeat_ms": (0.0, 60_000.0), "max_bytes": (4.0, 512.0)}
        problems = option_problems(self, bounds) + self.text_problems()
        for key in ("start", "end"):
            try:
                frame_bytes(getattr(self, key))
            except ValueError as error:
                problems.append(f"{key}: names no bytes ({error}); write such as STX, CR LF or 0x02")
        try:
            re.compile(self.banner)
        except re.error as error:
            problems.append(f"banner: is not a regular expression ({error})")
        if problems:
            raise ConfigError(problems)

    def form(self) -> LineForm:
        return LineForm(
            self.prefix,
            self.suffix,
            self.pattern,
            self.banner,
            self.ends_by_silence,
            self.max_bytes,
            frame_bytes(self.start),
            frame_bytes(self.end),
        )


class SerialLineReader(TalkingReader[LineEvent]):
    """Reader over a LineParser."""

    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, LineParser(options.form()), options.idle_gap_ms, options.repeat_ms, now_ns)
        self._form = TextForm(options)

    def _judge(self, frame: LineEvent, now_ns: int) -> Iterable[ReaderEvent]:
        if isinstance(frame, Line):
            if self._is_repeat(frame.text, now_ns):
                return
            event = self._form.judge(self.name, frame.text, now_ns)
            if isinstance(event, CardRefused):
                self._refuse(event)
            yield event
        elif isinstance(frame, Banner):
            self.vitals.resets += 1
            self.vitals.detail = "The reader has restarted; check its supply when this repeats."
        elif isinstance(frame, Dropped):
            self._drop(frame.why, frame.length, frame.shape)


def make(name: str, port: str, options: Options, transports: Transports) -> SerialLineReader:
    return SerialLineReader(
        name, transports.serial(port, options.baud, framing_of(options)), options, transports.now_ns
    )
