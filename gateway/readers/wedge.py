"""Keyboard-wedge readers, by raw input events and with an exclusive grab.

    number forms     every encoding of cards.encodings
    card gone        never reported
    LED, buzzer      no

Before the gateway starts such a reader types into the console: keep consoles off it with the shipped udev rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.errors import ConfigError
from gateway.protocols.key_layouts import LAYOUTS, key_code
from gateway.protocols.line import Dropped, Line, LineEvent, LineForm, LineParser
from gateway.protocols.shapes import Shape
from gateway.protocols.wedge import LOST, WedgeParser
from gateway.readers.base import CardRefused, ReaderEvent, Transports
from gateway.readers.serial_base import TalkingReader
from gateway.readers.text_form import TextForm, TextOptions
from gateway.readers.vital_signs import TAPS_LOST
from gateway.transports.input_events import InputTransport

_KEY_PROPOSAL = "layout, end_key or ignore_keys, as the reader is set"


@dataclass(frozen=True, slots=True)
class Options(TextOptions):
    """Settings of a wedge reader, beside those of text_form.TextOptions.

    Attributes:
        layout: the keyboard layout that the reader is set to: us, uk, fr, be, de, ch, es, it or nordic.
        end_key: a key that ends a line beside Enter and Tab, such as `down`, `space` or `f12`.
        ignore_keys: keys that type nothing, such as ["f2"] for a reader that sends F2 to a till first.
        idle_gap_ms: silence that ends a line; an Enter may get lost.
        repeat_ms: the reader repeats its line while a card rests; the same line within this time is one tap.
    """

    layout: str = "us"
    end_key: str = ""
    ignore_keys: list[str] = field(default_factory=list, metadata={"type": list})
    idle_gap_ms: float = 100.0
    repeat_ms: float = 0.0

    def __post_init__(self) -> None:
        problems = self.text_problems()
        if self.layout not in LAYOUTS:
            problems.append(f"layout: must be one of {', '.join(LAYOUTS)}")
        for key, names in (("end_key", [self.end_key] if self.end_key else []), ("ignore_keys", self.ignore_keys)):
            for name in names:
                try:
                    key_code(str(name))
                except KeyError:
                    problems.append(f"{key}: there is no key {name!r}; write such as down, space, f2 or esc")
        if not 20 <= self.idle_gap_ms <= 2000:
            problems.append("idle_gap_ms: must be from 20 to 2000")
        if not 0 <= self.repeat_ms <= 60_000:
            problems.append("repeat_ms: must be from 0 to 60000")
        if problems:
            raise ConfigError(problems)

    def form(self) -> LineForm:
        # A lost Enter must not lose the tap, so silence ends a line as well.
        return LineForm(self.prefix, self.suffix, self.pattern, banner="", ends_by_silence=True)

    def keys(self) -> WedgeParser:
        ends = [key_code(self.end_key)] if self.end_key else []
        return WedgeParser(self.layout, ends, [key_code(name) for name in self.ignore_keys])


class _TypedBytes:
    """Presents a keyboard as a serial line."""

    def __init__(self, device: InputTransport, keys: WedgeParser) -> None:
        self.port = device.port
        self._device = device
        self._keys = keys

    def open(self) -> None:
        self._keys.reset()
        self._device.open()

    def read(self, timeout_seconds: float) -> bytes:
        return b"".join(self._keys.feed(*event) for event in self._device.read(timeout_seconds))

    def write(self, data: bytes) -> None:
        """Keyboards take nothing."""

    def close(self) -> None:
        self._device.close()


class _KeyLines(LineParser):
    """Lines of a keyboard, whose locks and modifiers are at rest again when it has been silent."""

    def __init__(self, form: LineForm, keys: WedgeParser) -> None:
        super().__init__(form)
        self._keys = keys

    def feed(self, data: bytes) -> list[LineEvent]:
        events: list[LineEvent] = []
        for number, piece in enumerate(data.split(LOST)):
            if number:
                self.spoil(TAPS_LOST)
            events += super().feed(piece)
        return events

    def idle(self) -> list[LineEvent]:
        self._keys.reset()
        return super().idle()


class WedgeReader(TalkingReader[LineEvent]):
    def __init__(
        self, name: str, device: InputTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._keys = options.keys()
        lines = _KeyLines(options.form(), self._keys)
        super().__init__(name, _TypedBytes(device, self._keys), lines, options.idle_gap_ms, options.repeat_ms, now_ns)
        self._form = TextForm(options)
        self._lost = 0

    def _judge(self, frame: LineEvent, now_ns: int) -> list[ReaderEvent]:
        if isinstance(frame, Line):
            if self._is_repeat(frame.text, now_ns):
                return []
            event = self._form.judge(self.name, frame.text, now_ns)
            if isinstance(event, CardRefused):
                self._refuse(event)
            return [event]
        if isinstance(frame, Dropped):
            self._say_dropped(frame)
        return []

    def _say_dropped(self, frame: Dropped) -> None:
        spoiler, self._keys.spoiler = self._keys.spoiler, ""
        if frame.why == TAPS_LOST:
            self._drop(TAPS_LOST, frame.length, cause="key events were lost while the gateway was busy; taps were lost")
        elif spoiler:
            # The byte used for the key is not a property of the reader.
            self._drop(frame.why, frame.length, Shape("", _KEY_PROPOSAL), f"{spoiler} is in it")
        else:
            self._drop(frame.why, frame.length, frame.shape)


def make(name: str, port: str, options: Options, transports: Transports) -> WedgeReader:
    return WedgeReader(name, transports.input_device(port), options, transports.now_ns)
