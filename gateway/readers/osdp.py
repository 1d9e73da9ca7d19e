"""OSDP readers on an RS-485 line, through libosdp (extra `osdp`); one reader a line.

    numbers          Wiegand 26, 34 and 58 bits, or 32, 56 and 80 bits of UID; other lengths are refused with a reason
    Secure Channel   yes, with the reader's key from a file; without one the line is open to anybody who taps the wires
    card gone        never said
    LED, buzzer      yes
    tamper           counted, and the reader shows as degraded

libosdp is fenced in: it runs on the bus thread, since its own thread dies silently with the first serial error; its
channel never raises; and silence is measured here, since a lost reader would rest for 300 s by its rules. After
ReaderOffline the line is opened anew with a fresh control panel, which takes a third of a second.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gateway.access.rules import Reason
from gateway.cards.iso14443 import UNKNOWN_TYPE
from gateway.cards.wiegand import number_of
from gateway.errors import BadCardNumber, ConfigError, MissingExtra, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import CardRefused, ReaderEvent, Transports, Vitals
from gateway.readers.judge import judge_number
from gateway.readers.serial_base import option_problems
from gateway.transports.serial import SerialTransport

_START_SECONDS = 1.9
_REFRESH_SECONDS = 0.002
_SILENCE_NS = 1_500_000_000
_KEY_BYTES = 16
_TENTHS = 10  # libosdp counts LED and buzzer times in 100 ms


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of an osdp reader.

    Attributes:
        address: of the reader on its line, 0 to 126.
        scbk_file: file with the reader's Secure Channel base key, 32 hex digits; empty for a plain line.
        bit_order: `lsb` when the reader sends the UID's last byte first.
    """

    baud: int = 9600
    address: int = 0
    scbk_file: str = ""
    bit_order: str = "msb"

    def __post_init__(self) -> None:
        problems = option_problems(self, {"address": (0, 126)})
        if self.bit_order not in {"msb", "lsb"}:
            problems.append("bit_order: must be msb or lsb")
        if problems:
            raise ConfigError(problems)


class _Channel:
    """What libosdp reads and writes; an exception in here would end it, so it keeps the error instead."""

    def __init__(self, transport: SerialTransport, now_ns: Callable[[], int]) -> None:
        self.id = 0
        self.error: ReaderOffline | None = None
        self.heard_ns = now_ns()
        self._transport = transport
        self._now_ns = now_ns
        self._rest = b""

    def read(self, max_bytes: int) -> bytes:
        try:
            arrived = self._transport.read(0)
        except ReaderOffline as error:
            self.error = error
            return b""
        if arrived:
            self.heard_ns = self._now_ns()
        data = self._rest + arrived
        self._rest = data[max_bytes:]
        return data[:max_bytes]

    def write(self, data: bytes) -> int:
        try:
            self._transport.write(data)
        except ReaderOffline as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        self._rest = b""


class OsdpReader:
    """Reader over a libosdp control panel with one peripheral device."""

    def __init__(
        self, name: str, transport: SerialTransport, options: Options, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.name = name
        self.vitals = Vitals()
        self.pause_seconds = _REFRESH_SECONDS
        self._transport = transport
        self._options = options
        self._now_ns = now_ns
        self._channel = _Channel(transport, now_ns)
        self._library: Any = None
        self._panel: Any = None
        self._arrived: deque[dict[str, Any]] = deque()

    def open(self) -> None:
        library = self._import()
        key = self._key()
        again = self.vitals.state != "starting"
        self.close()
        try:
            self._transport.open()
            self._start(library, key)
        except ReaderOffline as error:
            self.close()
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        self.vitals.reopens += again
        self.vitals.state = "ready"
        self.vitals.detail = "Secure Channel" if key else "plain line; set scbk_file to protect it"

    @staticmethod
    def _import() -> Any:
        try:
            import osdp  # noqa: PLC0415  # only this driver needs it
        except ImportError as error:
            raise MissingExtra("Driver osdp needs libosdp; install tapgate[osdp].") from error
        if not hasattr(osdp, "LibFlag"):
            raise MissingExtra("The package osdp stands in the place of libosdp; uninstall it, install tapgate[osdp].")
        return osdp

    def _key(self) -> bytes | None:
        if not self._options.scbk_file:
            return None
        try:
            key = bytes.fromhex(Path(self._options.scbk_file).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            key = b""
        if len(key) != _KEY_BYTES:
            raise ConfigError([f"scbk_file: {self._options.scbk_file} must hold 32 hex digits"])
        return key

    def _start(self, library: Any, key: bytes | None) -> None:
        self._library = library
        self._channel = _Channel(self._transport, self._now_ns)
        self._arrived.clear()
        flags = [library.LibFlag.EnforceSecure] if key else []
        device = library.PDInfo(self._options.address, self._channel, scbk=key, flags=flags)
        self._panel = library.ControlPanel([device], log_level=library.LogLevel.Emergency)
        self._panel.set_event_handler(self._on_event)
        began_ns, heard_before = time.monotonic_ns(), self._channel.heard_ns
        while not self._is_up(secure=key is not None):
            self._refresh()
            if time.monotonic_ns() - began_ns > _START_SECONDS * 1e9:
                port = self._transport.port
                if key and self._channel.heard_ns != heard_before:
                    raise ReaderOffline(
                        f"The OSDP reader on {port} opens no Secure Channel; check the key in scbk_file."
                    )
                raise ReaderOffline(f"No OSDP reader answers on {port}; check address, baud and the two wires.")
            time.sleep(_REFRESH_SECONDS)
        self._channel.heard_ns = self._now_ns()

    def _is_up(self, *, secure: bool) -> bool:
        context = self._panel.ctx
        return bool(context.sc_status() & 1 if secure else context.status() & 1)

    def _refresh(self) -> None:
        if self._panel is None:
            raise ReaderOffline(f"{self._transport.port} is not open.")
        self._panel.ctx.refresh()
        if self._channel.error:
            raise self._channel.error

    def _mind_silence(self) -> None:
        if self._now_ns() - self._channel.heard_ns > _SILENCE_NS:
            raise ReaderOffline(f"The OSDP reader on {self._transport.port} has stopped answering.")

    def _on_event(self, _device: int, event: dict[str, Any]) -> int:
        self._arrived.append(event)
        return 0

    def poll(self) -> list[ReaderEvent]:
        self.vitals.polls += 1
        try:
            self._refresh()
            self._mind_silence()
        except ReaderOffline as error:
            self.vitals.state, self.vitals.detail = "offline", str(error)
            raise
        events: list[ReaderEvent] = []
        # libosdp keeps a queue of its own as well; nothing else empties it.
        while self._arrived:
            self._panel.event_queue[0].get()
            event = self._judge(self._arrived.popleft())
            if event:
                events.append(event)
        return events

    def _judge(self, event: dict[str, Any]) -> ReaderEvent | None:
        kinds = self._library.Event
        if event["event"] == kinds.KeyPress:
            self._count("keys")
        elif event["event"] == kinds.Status:
            self._count("status reports")
            if event.get("type") == self._library.StatusReportType.Local:
                tampered = any(event.get("report", b"")[:1])
                self.vitals.state = "degraded" if tampered else "ready"
                self.vitals.detail = "The reader reports tampering." if tampered else "tampering has ended"
                self.vitals.counters["tamper"] = self.vitals.counters.get("tamper", 0) + tampered
        elif event["event"] == kinds.CardRead:
            return self._card(event["data"], event["length"])
        return None

    def _card(self, data: bytes, bits: int) -> ReaderEvent:
        now_ns = self._now_ns()
        self.vitals.presentations += 1
        self.vitals.last_read_ns = now_ns
        # The first bit on the wire is the top bit of the first byte.
        word = int.from_bytes(data, "big") >> max(len(data) * 8 - bits, 0)
        if self._options.bit_order == "lsb" and not bits % 8:
            word = int.from_bytes(word.to_bytes(bits // 8, "big"), "little")
        try:
            number = number_of(word, bits)
        except BadCardNumber as error:
            self.vitals.errors += 1
            return CardRefused(self.name, Reason.CARD_FORMAT, str(error), now_ns)
        return judge_number(self.name, number, UNKNOWN_TYPE, now_ns)

    def signal(self, signal: Signal) -> bool:
        if self._panel is None:
            return False
        colours = self._library.CommandLEDColor
        colour, seconds, beeps = {
            Signal.GRANTED: (colours.Green, 2, 1),
            Signal.DENIED: (colours.Red, 2, 3),
            Signal.WAIT: (colours.Amber, 5, 0),
            Signal.FAULT: (colours.Red, 10, 0),
            Signal.IDENTIFY: (colours.Blue, 5, 2),
        }[signal]
        shown = self._submit(self._led(colour, seconds))
        if beeps:
            shown = self._submit(self._buzzer(beeps)) and shown
        return shown

    def _led(self, colour: int, seconds: int) -> dict[str, Any]:
        return {
            "command": self._library.Command.LED,
            "reader": 0,
            "led_number": 0,
            "temporary": True,
            "control_code": 2,
            "on_count": 5,
            "off_count": 0,
            "on_color": colour,
            "off_color": self._library.CommandLEDColor.Black,
            "timer_count": seconds * _TENTHS,
        }

    def _buzzer(self, times: int) -> dict[str, Any]:
        command: Literal[2] = 2  # the default tone
        return {
            "command": self._library.Command.Buzzer,
            "reader": 0,
            "control_code": command,
            "on_count": 1,
            "off_count": 1,
            "rep_count": times,
        }

    def _submit(self, command: dict[str, Any]) -> bool:
        try:
            return bool(self._panel.ctx.submit_command(0, command))
        except (SystemError, RuntimeError, ValueError):
            # libosdp holds four commands; a reader that is busy with those misses a flash, not a card.
            self._count("signals refused")
            return False

    def _count(self, name: str) -> None:
        self.vitals.counters[name] = self.vitals.counters.get(name, 0) + 1

    def close(self) -> None:
        self._panel = None
        self._transport.close()


def make(name: str, port: str, options: Options, transports: Transports) -> OsdpReader:
    return OsdpReader(name, transports.serial(port, options.baud), options)
