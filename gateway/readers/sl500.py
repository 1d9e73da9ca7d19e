"""SL500 and its relatives on a serial line.

UIDs             4 and 7 bytes; 7-byte cards are refused with a reason when the firmware has no rf_ul_select
card gone        yes
LED, buzzer      yes

A card says in its ATQA that its UID has seven bytes, and only then the command for both cascade levels is sent. A
firmware without it gives the first level, 88 and three bytes, which many cards share: that is no identity.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cards.iso14443 import UNKNOWN_TYPE, card_type
from gateway.errors import ConfigError
from gateway.points.actions import Signal
from gateway.protocols import sl500
from gateway.readers.base import Transports
from gateway.readers.serial_base import AskedReader, NoAnswer, option_problems
from gateway.transports.serial import SerialTransport

_ANSWER_SECONDS = 0.1
# The answer of a firmware with this command; one without it is silent, and the look must still end in time.
_SEVEN_SECONDS = 0.05
# A card at the edge of the field may give its first level and lose the second; only these many looks are a firmware.
_CUT_LOOKS = 3

# Beeps are counted in 10 ms.
_SIGNALS: dict[Signal, tuple[tuple[int, bytes], ...]] = {
    Signal.GRANTED: ((sl500.LED, bytes([sl500.LED_GREEN])), (sl500.BEEP, b"\x08")),
    Signal.DENIED: ((sl500.LED, bytes([sl500.LED_RED])), *(((sl500.BEEP, b"\x08"),) * 3)),
    Signal.WAIT: ((sl500.LED, bytes([sl500.LED_OFF])),),
    Signal.FAULT: ((sl500.LED, bytes([sl500.LED_RED])),),
    Signal.IDENTIFY: ((sl500.LED, bytes([sl500.LED_GREEN])), (sl500.BEEP, b"\x10"), (sl500.BEEP, b"\x10")),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an sl500 reader.

    Attributes:
        node: the reader's number on its line, 0 for any.
    """

    baud: int = 19200
    node: int = 0
    poll_ms: float = 20.0
    rearm_ms: float = 300.0

    def __post_init__(self) -> None:
        bounds = {"node": (0.0, 65535.0), "poll_ms": (0.0, 1000.0), "rearm_ms": (20.0, 10_000.0)}
        problems = option_problems(self, bounds)
        if problems:
            raise ConfigError(problems)


class Sl500Reader(AskedReader[tuple[int, bytes]]):
    signals = _SIGNALS

    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, options.rearm_ms, options.poll_ms, now_ns)
        self._node = options.node
        self._parser = sl500.FrameParser()
        self._cut_looks = 0

    def _start(self) -> None:
        self._drain()
        self._command(sl500.LED, bytes([sl500.LED_OFF]))
        self.vitals.firmware = "SL500"
        try:
            model = self._command(sl500.GET_MODEL)
        except NoAnswer:
            model = sl500.Packet(sl500.GET_MODEL, b"")
        if not model.status and model.data.isascii():
            self.vitals.firmware = model.data.decode()
        self.vitals.detail = f"{self.vitals.firmware} answers"

    def _look(self) -> tuple[bytes, str] | None:
        request = self._command(sl500.REQUEST, sl500.REQUEST_ALL)
        if request.status or len(request.data) != 2:
            self._cut_looks = 0
            return None
        if sl500.has_seven_bytes(request.data):
            return self._look_for_seven()
        found = self._command(sl500.ANTICOLLISION)
        if found.status or len(found.data) != 4:
            return None
        selected = self._command(sl500.SELECT, found.data)
        sak = selected.data[0] if not selected.status and selected.data else -1
        self._command(sl500.HALT)
        return found.data, card_type(request.data, sak)

    def _look_for_seven(self) -> tuple[bytes, str] | None:
        try:
            whole = self._command(sl500.SELECT_SEVEN, timeout_seconds=_SEVEN_SECONDS)
        except NoAnswer:
            whole = sl500.Packet(sl500.SELECT_SEVEN, b"")
        if not whole.status and len(whole.data) == 7:
            self._cut_looks = 0
            self._command(sl500.HALT)
            return whole.data, UNKNOWN_TYPE
        first = self._command(sl500.ANTICOLLISION)
        if first.status or len(first.data) != 4:
            return None
        self._cut_looks += 1
        if self._cut_looks < _CUT_LOOKS:
            return None
        self.vitals.detail = "This reader's firmware reads 4-byte UIDs only (no rf_ul_select); use another reader."
        # The cascade tag in front makes it a refused card, with that reason.
        return first.data, UNKNOWN_TYPE

    def _perform(self, show: tuple[int, bytes]) -> None:
        self._command(*show)

    def _command(self, command: int, data: bytes = b"", timeout_seconds: float = _ANSWER_SECONDS) -> sl500.Packet:
        self._parser.idle()

        def accept(arrived: bytes) -> sl500.Packet | None:
            return next((reply for reply in self._parser.feed(arrived) if reply.command == command), None)

        try:
            return self._ask(sl500.frame(command, data, self._node), accept, timeout_seconds)
        except NoAnswer:
            self._count("no answer")
            raise


def make(name: str, port: str, options: Options, transports: Transports) -> Sl500Reader:
    return Sl500Reader(name, transports.serial(port, options.baud), options, transports.now_ns)
