"""SL500 and its relatives on a serial line.

UIDs             4 bytes; 7-byte cards are refused with a reason, the reader gives their first level only
card gone        yes
LED, buzzer      yes
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cards.iso14443 import card_type
from gateway.errors import ConfigError
from gateway.points.actions import Signal
from gateway.protocols import sl500
from gateway.readers.base import Transports
from gateway.readers.serial_base import AskedReader, NoAnswer, option_problems
from gateway.transports.serial import SerialTransport

_ANSWER_SECONDS = 0.1
_QUEUE = 8

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


class Sl500Reader(AskedReader):
    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(name, transport, options.rearm_ms, options.poll_ms, now_ns)
        self._node = options.node
        self._parser = sl500.FrameParser()
        self._show: deque[tuple[int, bytes]] = deque(maxlen=_QUEUE)

    def _start(self) -> None:
        self._drain()
        self._command(sl500.LED, bytes([sl500.LED_OFF]))
        self.vitals.firmware = "SL500"
        self.vitals.detail = "SL500 answers"

    def _look(self) -> tuple[bytes, str] | None:
        if self._show:
            self._command(*self._show.popleft())
        request = self._command(sl500.REQUEST, sl500.REQUEST_ALL)
        if request.status or len(request.data) != 2:
            return None
        found = self._command(sl500.ANTICOLLISION)
        if found.status or len(found.data) != 4:
            return None
        selected = self._command(sl500.SELECT, found.data)
        sak = selected.data[0] if not selected.status and selected.data else -1
        self._command(sl500.HALT)
        return found.data, card_type(request.data, sak)

    def _command(self, command: int, data: bytes = b"") -> sl500.Packet:
        self._parser.idle()

        def accept(arrived: bytes) -> sl500.Packet | None:
            return next((reply for reply in self._parser.feed(arrived) if reply.command == command), None)

        try:
            return self._ask(sl500.frame(command, data, self._node), accept, _ANSWER_SECONDS)
        except NoAnswer:
            self._count("no answer")
            raise

    def signal(self, signal: Signal) -> bool:
        # Sent with the next looks: nobody waits here for a serial line.
        self._show.extend(_SIGNALS[signal])
        return True


def make(name: str, port: str, options: Options, transports: Transports) -> Sl500Reader:
    return Sl500Reader(name, transports.serial(port, options.baud), options)
