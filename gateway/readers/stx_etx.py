"""125 kHz readers of the ID-12 and RDM6300 kind.

tags             EM4100, read only; the number is the four bytes printed on the tag as ten decimal digits
card gone        never said
LED, buzzer      no
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.cards.identity import UID_PROJECTION, CardNumber
from gateway.errors import ConfigError
from gateway.protocols.stx_etx import Dropped, StxEtxParser, Tag
from gateway.readers.base import CardRead, ReaderEvent, Transports
from gateway.readers.serial_base import TalkingReader, option_problems
from gateway.transports.serial import SerialTransport


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an stx-etx reader.

    Attributes:
        repeat_ms: RDM6300 repeats while a tag rests; the same tag within this time of its last sight is one tap.
    """

    baud: int = 9600
    idle_gap_ms: float = 60.0
    repeat_ms: float = 500.0

    def __post_init__(self) -> None:
        problems = option_problems(self, {"idle_gap_ms": (5, 2000), "repeat_ms": (0, 60_000)})
        if problems:
            raise ConfigError(problems)


class StxEtxReader(TalkingReader[Tag | Dropped]):
    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, StxEtxParser(), options.idle_gap_ms, options.repeat_ms, now_ns)

    def _judge(self, frame: Tag | Dropped, now_ns: int) -> Iterable[ReaderEvent]:
        if isinstance(frame, Dropped):
            self._drop(frame.why, frame.length)
        elif not self._is_repeat(frame, now_ns):
            # No ISO 14443 UID: a first byte of 08 or 88 means nothing here.
            yield CardRead(self.name, CardNumber(UID_PROJECTION, frame.number), "em4100", now_ns)


def make(name: str, port: str, options: Options, transports: Transports) -> StxEtxReader:
    return StxEtxReader(name, transports.serial(port, options.baud), options, transports.now_ns)
