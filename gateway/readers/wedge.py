"""Keyboard-wedge readers, by raw input events and with an exclusive grab.

    number forms     every encoding of cards.encodings
    card gone        never said
    LED, buzzer      no

Before the gateway starts such a reader types into the console: keep consoles off it with the shipped udev rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cards.encodings import check_encoding
from gateway.errors import BadCardNumber, ConfigError
from gateway.protocols.line import Line, LineEvent, LineForm, LineParser
from gateway.protocols.wedge import WedgeParser
from gateway.readers.base import ReaderEvent, Transports
from gateway.readers.judge import judge_text
from gateway.readers.serial_base import TalkingReader
from gateway.transports.input_events import InputTransport


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a wedge reader.

    Attributes:
        idle_gap_ms: silence that ends a line; an Enter may get lost.
    """

    encoding: str = "hex-msb"
    prefix: str = ""
    suffix: str = ""
    idle_gap_ms: float = 100.0
    repeat_ms: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        try:
            check_encoding(self.encoding)
        except BadCardNumber as error:
            problems.append(f"encoding: {error}")
        if not 20 <= self.idle_gap_ms <= 2000:
            problems.append("idle_gap_ms: must be from 20 to 2000")
        if not 0 <= self.repeat_ms <= 60_000:
            problems.append("repeat_ms: must be from 0 to 60000")
        if problems:
            raise ConfigError(problems)


class _TypedBytes:
    """Lets a keyboard look like a serial line that types."""

    def __init__(self, device: InputTransport) -> None:
        self.port = device.port
        self._device = device
        self._keys = WedgeParser()

    def open(self) -> None:
        self._keys.reset()
        self._device.open()

    def read(self, timeout_seconds: float) -> bytes:
        return b"".join(self._keys.feed(*event) for event in self._device.read(timeout_seconds))

    def write(self, data: bytes) -> None:
        """Keyboards take nothing."""

    def close(self) -> None:
        self._device.close()


class WedgeReader(TalkingReader[LineEvent]):
    def __init__(
        self, name: str, device: InputTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        # A lost Enter must not lose the tap, so silence ends a line as well.
        form = LineForm(options.prefix, options.suffix, banner="", ends_by_silence=True)
        super().__init__(name, _TypedBytes(device), LineParser(form), options.idle_gap_ms, options.repeat_ms, now_ns)
        self._encoding = options.encoding

    def _judge(self, frame: LineEvent, now_ns: int) -> list[ReaderEvent]:
        if isinstance(frame, Line):
            if self._is_repeat(frame.text, now_ns):
                return []
            return [judge_text(self.name, frame.text, self._encoding, now_ns)]
        self._drop(getattr(frame, "why", "not text"), getattr(frame, "length", 0))
        return []


def make(name: str, port: str, options: Options, transports: Transports) -> WedgeReader:
    return WedgeReader(name, transports.input_device(port), options, transports.now_ns)
