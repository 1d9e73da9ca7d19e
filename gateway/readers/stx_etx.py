"""125 kHz readers of the ID-12 and RDM6300 kind.

tags             EM4100, read only; five bytes, of which the last four are printed on it as ten decimal digits
card gone        never reported
LED, buzzer      no
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.cards.identity import EM4100, LOW_FREQUENCY, identify
from gateway.errors import ConfigError
from gateway.protocols.shapes import Shape
from gateway.protocols.stx_etx import OUTSIDE, Dropped, StxEtxParser, Tag
from gateway.readers.base import CardRead, ReaderEvent, Transports
from gateway.readers.serial_base import TalkingReader, framing_of, option_problems
from gateway.transports.serial import SerialTransport

_FOUR_BYTES = "four-bytes"


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an stx-etx reader.

    Attributes:
        number: `em4100` keeps all five bytes of a tag. `four-bytes` leaves out the first, as readers do that print ten
            decimal digits; two tags may then have one number. Rosters that hold four bytes find a tag either way.
        repeat_ms: RDM6300 repeats while a tag rests; the same tag within this time of its last sight is one tap.
    """

    baud: int = 9600
    parity: str = "none"
    data_bits: int = 8
    stop_bits: int = 1
    number: str = EM4100
    idle_gap_ms: float = 60.0
    repeat_ms: float = 500.0

    def __post_init__(self) -> None:
        problems = option_problems(self, {"idle_gap_ms": (5, 2000), "repeat_ms": (0, 60_000)})
        if self.number not in {EM4100, _FOUR_BYTES}:
            problems.append(f"number: must be {EM4100} or {_FOUR_BYTES}")
        if problems:
            raise ConfigError(problems)


class StxEtxReader(TalkingReader[Tag | Dropped]):
    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, StxEtxParser(), options.idle_gap_ms, options.repeat_ms, now_ns)
        self._keeps_all = options.number == EM4100

    def _judge(self, frame: Tag | Dropped, now_ns: int) -> Iterable[ReaderEvent]:
        if isinstance(frame, Dropped):
            # Frames of its own kind that are damaged need no other driver.
            shape = frame.shape if frame.why == OUTSIDE else Shape(frame.shape.kind)
            self._drop(frame.why, frame.length, shape)
        elif not self._is_repeat(frame, now_ns):
            raw = bytes([frame.version]) + frame.number if self._keeps_all else frame.number
            yield CardRead(self.name, identify(raw, LOW_FREQUENCY), EM4100, now_ns)


def make(name: str, port: str, options: Options, transports: Transports) -> StxEtxReader:
    return StxEtxReader(name, transports.serial(port, options.baud, framing_of(options)), options, transports.now_ns)
