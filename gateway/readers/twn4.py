"""Elatec TWN4 with Simple Protocol firmware: asked for cards, with its own LEDs and beeper.

UIDs             ISO 14443 type A of 4, 7 and 10 bytes; other kinds are refused with a reason
card gone        yes
LED, buzzer      yes: green and a short beep, red and a long one
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.errors import BadMessage, ConfigError
from gateway.points.actions import Signal
from gateway.protocols import twn4
from gateway.readers.base import Transports
from gateway.readers.serial_base import AskedReader, NoAnswer, option_problems
from gateway.transports.serial import SerialTransport

_ANSWER_SECONDS = 0.09
_START_SECONDS = 0.5

_SIGNALS: dict[Signal, tuple[bytes, ...]] = {
    Signal.GRANTED: (twn4.led(twn4.RED, on=False), twn4.led(twn4.GREEN, on=True), twn4.beep(2400, 60)),
    Signal.DENIED: (twn4.led(twn4.GREEN, on=False), twn4.led(twn4.RED, on=True), *(twn4.beep(1600, 60),) * 3),
    Signal.WAIT: (twn4.led(twn4.GREEN | twn4.RED, on=False), twn4.led(twn4.YELLOW, on=True)),
    Signal.FAULT: (twn4.led_blink(twn4.RED, 200, 200),),
    Signal.IDENTIFY: (twn4.led_blink(twn4.RED | twn4.GREEN, 100, 100), twn4.beep(3000, 60)),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a twn4 reader."""

    baud: int = 9600
    poll_ms: float = 20.0
    rearm_ms: float = 300.0

    def __post_init__(self) -> None:
        problems = option_problems(self, {"poll_ms": (0, 1000), "rearm_ms": (20, 10_000)})
        if problems:
            raise ConfigError(problems)


class Twn4Reader(AskedReader[bytes]):
    signals = _SIGNALS

    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, options.rearm_ms, options.poll_ms, now_ns)

    def _start(self) -> None:
        version = twn4.results_of(self._question(twn4.GET_VERSION, _START_SECONDS))
        self.vitals.firmware = version[1:].decode("ascii", "replace")
        self.vitals.detail = f"TWN4 {self.vitals.firmware}"
        for request in (twn4.SET_TAG_TYPES_ISO14443A, twn4.LED_INIT):
            twn4.results_of(self._question(request, _START_SECONDS))

    def _look(self) -> tuple[bytes, str] | None:
        try:
            found = twn4.parse_search(self._question(twn4.SEARCH_TAG, _ANSWER_SECONDS))
        except BadMessage as error:
            self.vitals.errors += 1
            self.vitals.detail = str(error)
            raise NoAnswer from None
        if found is None or not found.is_iso14443a:
            return None
        return found.number, UNKNOWN_TYPE

    def _question(self, request: bytes, timeout_seconds: float) -> bytes:
        try:
            return self._ask(request, twn4.Replies().feed, timeout_seconds)
        except BadMessage as error:
            self.vitals.errors += 1
            self.vitals.detail = str(error)
            self._drain()
            raise NoAnswer from None

    def _perform(self, show: bytes) -> None:
        self._question(show, _ANSWER_SECONDS)


def make(name: str, port: str, options: Options, transports: Transports) -> Twn4Reader:
    return Twn4Reader(name, transports.serial(port, options.baud), options, transports.now_ns)
