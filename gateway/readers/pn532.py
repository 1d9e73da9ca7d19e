"""PN532 boards on a serial line (HSU).

    UIDs             4, 7 and 10 bytes
    card gone        yes
    LED, buzzer      no

A chip left in the middle of a command by a killed program, or asleep, is aborted with an ACK and woken at every start.
The field is switched off after each card found, else the card would keep silent at the next look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cards.iso14443 import card_type
from gateway.errors import BadMessage, ConfigError
from gateway.protocols import pn532
from gateway.readers.base import Transports
from gateway.readers.serial_base import AskedReader, NoAnswer, option_problems
from gateway.transports.serial import SerialTransport

_ANSWER_SECONDS = 0.09
_START_SECONDS = 0.5
_PING_NS = 30_000_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a pn532 reader."""

    baud: int = 115200
    poll_ms: float = 10.0
    rearm_ms: float = 200.0

    def __post_init__(self) -> None:
        problems = option_problems(self, {"poll_ms": (0, 1000), "rearm_ms": (20, 10_000)})
        if problems:
            raise ConfigError(problems)


class Pn532Reader(AskedReader[bytes]):
    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, options.rearm_ms, options.poll_ms, now_ns)
        self._parser = pn532.FrameParser()
        self._next_ping_ns = 0

    def _start(self) -> None:
        self._transport.write(pn532.ACK)
        self._transport.write(pn532.WAKE_UP)
        self._transport.read(0.02)
        self._drain()
        self._command(pn532.SAM_CONFIGURATION, _START_SECONDS)
        version = self._command(pn532.GET_FIRMWARE_VERSION, _START_SECONDS)
        if len(version) >= 3:
            self.vitals.firmware = f"PN5{version[0]:02X} v{version[1]}.{version[2]}"
        self._command(pn532.LIMIT_RETRIES, _START_SECONDS)
        self.vitals.detail = self.vitals.firmware
        self._next_ping_ns = self._now_ns() + _PING_NS

    def _look(self) -> tuple[bytes, str] | None:
        if self._now_ns() > self._next_ping_ns:
            self._command(pn532.GET_FIRMWARE_VERSION, _ANSWER_SECONDS)
            self._next_ping_ns = self._now_ns() + _PING_NS
        try:
            target = pn532.parse_target(self._command(pn532.LIST_ONE_ISO14443A, _ANSWER_SECONDS))
        except BadMessage:
            self.vitals.errors += 1
            raise NoAnswer from None
        if target is None:
            return None
        self._command(pn532.FIELD_OFF, _ANSWER_SECONDS)
        return target.uid, card_type(target.atqa, target.sak)

    def _command(self, command: bytes, timeout_seconds: float) -> bytes:
        self._parser.idle()
        code = command[0] + 1

        def accept(data: bytes) -> bytes | None:
            for event in self._parser.feed(data):
                if isinstance(event, pn532.Reply) and event.code == code:
                    return event.data
                if isinstance(event, pn532.Refused):
                    self.vitals.errors += 1
                    self._count(event.why)
            return None

        try:
            return self._ask(pn532.frame(command), accept, timeout_seconds)
        except NoAnswer:
            # Whatever it is busy with, it must not answer into the next question.
            self._transport.write(pn532.ACK)
            raise


def make(name: str, port: str, options: Options, transports: Transports) -> Pn532Reader:
    return Pn532Reader(name, transports.serial(port, options.baud), options, transports.now_ns)
