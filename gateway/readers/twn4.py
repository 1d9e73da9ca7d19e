"""Elatec TWN4 with Simple Protocol firmware: polled for cards, with its own LEDs and beeper.

numbers          UIDs of ISO 14443 type A; ISO 15693, LEGIC, iCLASS, FeliCa, EM4100 and HID Prox when they are set
card gone        yes
LED, buzzer      yes: green and a short beep, red and a long one
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.access.rules import Reason
from gateway.cards.identity import ISO14443A, identify
from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.cards.wiegand import number_of
from gateway.errors import BadCardNumber, BadMessage, ConfigError
from gateway.points.actions import Signal
from gateway.protocols import twn4
from gateway.readers.base import CardRead, CardRefused, Transports
from gateway.readers.judge import judge_uid
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
    """Settings of a twn4 reader.

    Attributes:
        technologies: what to search for, of iso14443a, iso15693, legic, iclass, felica, em4100 and hid-prox; a reader
            needs the antenna and licence for each. One kind is found sooner than many.
    """

    baud: int = 9600
    technologies: list[str] = field(default_factory=lambda: [ISO14443A], metadata={"type": list})
    poll_ms: float = 20.0
    rearm_ms: float = 300.0

    def __post_init__(self) -> None:
        problems = option_problems(self, {"poll_ms": (0, 1000), "rearm_ms": (20, 10_000)})
        if not self.technologies or not all(name in twn4.TAG_TYPES for name in self.technologies):
            problems.append(f"technologies: must be a list of {', '.join(twn4.TAG_TYPES)}")
        if problems:
            raise ConfigError(problems)


class Twn4Reader(AskedReader[bytes]):
    signals = _SIGNALS

    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, options.rearm_ms, options.poll_ms, now_ns)
        self._kinds = {twn4.TAG_TYPES[name]: name for name in options.technologies}
        self._found: twn4.FoundTag | None = None

    def _start(self) -> None:
        version = twn4.results_of(self._question(twn4.GET_VERSION, _START_SECONDS))
        self.vitals.firmware = version[1:].decode("ascii", "replace")
        self.vitals.detail = f"TWN4 {self.vitals.firmware}"
        for request in (twn4.set_tag_types(self._kinds.values()), twn4.LED_INIT):
            twn4.results_of(self._question(request, _START_SECONDS))

    def _look(self) -> tuple[bytes, str] | None:
        try:
            found = twn4.parse_search(self._question(twn4.SEARCH_TAG, _ANSWER_SECONDS))
        except BadMessage as error:
            self.vitals.errors += 1
            self.vitals.detail = str(error)
            raise NoAnswer from None
        if found is None or found.tag_type not in self._kinds:
            return None
        self._found = found
        kind = self._kinds[found.tag_type]
        return found.number, UNKNOWN_TYPE if kind == ISO14443A else kind

    def _judge_card(self, number: bytes, kind: str, now_ns: int) -> CardRead | CardRefused:
        found = self._found
        if found is None or found.is_iso14443a:
            return judge_uid(self.name, number, kind, now_ns)
        try:
            if found.tag_type == twn4.HID_PROX:
                read = number_of(int.from_bytes(number, "big") >> -found.bits % 8, found.bits)
            else:
                read = identify(number, kind)
        except BadCardNumber as error:
            return CardRefused(self.name, Reason.CARD_FORMAT, str(error), now_ns)
        return CardRead(self.name, read, kind, now_ns)

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
