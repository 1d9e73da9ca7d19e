"""libosdp fenced in: one control panel with one peripheral device, whose methods return what JSON can hold.

It runs on the bus thread, since libosdp's own thread dies silently with the first serial error; its channel never
raises and gives one piece a turn, since libosdp reads until nothing comes; silence is measured here, since a lost
reader would rest for 300 s by its rules; and nothing is asked that the reader has not said it can do, since one refused
command (NAK) counts for libosdp as a lost reader. What keys were pressed ends in this file: they may be a PIN.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError, MissingExtra, ReaderOffline
from gateway.points.actions import Signal
from gateway.transports.serial import SerialTransport

REFRESH_SECONDS = 0.002
_START_SECONDS = 1.65
# Readers keep cards that they could not tell, one for each time they are asked, every 50 ms.
_LATE_SECONDS = 0.2
_SILENCE_NS = 1_500_000_000
_KEY_BYTES = 16
_TENTHS = 10  # libosdp counts LED and buzzer times in 100 ms
_LONGEST = 512
_REPLY = 0x80  # in a reply's address byte


class _Channel:
    """What libosdp reads and writes; an exception in here would end it, so it keeps the error instead.

    Attributes:
        heard_ns: when something last came that looks like the head of this reader's reply; noise does not.
    """

    def __init__(self, transport: SerialTransport, address: int, now_ns: Callable[[], int]) -> None:
        self.id = 0
        self.error: ReaderOffline | None = None
        self.heard_ns = now_ns()
        self.has_heard = False
        self._transport = transport
        self._now_ns = now_ns
        self._head = bytes([0x53, address | _REPLY])
        self._last = b""
        self._rest = b""
        self._may_read = True

    def begin_turn(self) -> None:
        self._may_read = True

    def read(self, max_bytes: int) -> bytes:
        if not self._may_read:
            return b""
        self._may_read = False
        try:
            arrived = self._transport.read(0)
        except ReaderOffline as error:
            self.error = error
            return b""
        self._listen(arrived)
        # What is more than a few frames is noise; libosdp's own buffer would flow over and say so on the console.
        waiting = (self._rest + arrived)[-_LONGEST:]
        data, self._rest = waiting[:max_bytes], waiting[max_bytes:]
        return data

    def _listen(self, arrived: bytes) -> None:
        if self._head in self._last + arrived:
            self.heard_ns = self._now_ns()
            self.has_heard = True
        self._last = arrived[-1:] or self._last

    def write(self, data: bytes) -> int:
        try:
            self._transport.write(data)
        except ReaderOffline as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        self._rest = b""


class LibosdpPanel:
    """One control panel on one line.

    Args:
        key_file: file with the Secure Channel base key, 32 hex digits; empty for a plain line.
    """

    def __init__(
        self,
        transport: SerialTransport,
        address: int,
        key_file: str,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._transport = transport
        self._address = address
        self._key_file = key_file
        self._now_ns = now_ns
        self._channel = _Channel(transport, address, now_ns)
        self._library: Any = None
        self._panel: Any = None
        self._arrived: deque[dict[str, Any]] = deque()
        self._late = 0

    def open(self) -> None:
        """Open the line and wait until the reader is up, and drop the cards it has kept; at most 1.9 s.

        Raises:
            ReaderOffline: the port is gone, the reader is silent, or it has another key.
            ConfigError: the key file holds no key.
            MissingExtra: libosdp is not installed.
        """
        self.close()
        library = self._import()
        key = self._key()
        self._transport.open()
        self._library = library
        self._channel = _Channel(self._transport, self._address, self._now_ns)
        self._arrived.clear()
        flags = [library.LibFlag.EnforceSecure] if key else []
        device = library.PDInfo(self._address, self._channel, scbk=key, flags=flags)
        self._panel = library.ControlPanel([device], log_level=library.LogLevel.Emergency)
        self._panel.set_event_handler(self._on_event)
        self._wait_until_up(secure=key is not None)
        self._drop_late_cards()
        # Its status is not asked for: peripherals built on libosdp answer the question with zeros, which would end an
        # alarm that goes on. What changes is told by the reader itself, also after a lost line.

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
        if not self._key_file:
            return None
        try:
            key = bytes.fromhex(Path(self._key_file).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            key = b""
        if len(key) != _KEY_BYTES:
            raise ConfigError([f"scbk_file: {self._key_file} must hold 32 hex digits"])
        return key

    def _wait_until_up(self, *, secure: bool) -> None:
        context, end = self._panel.ctx, time.monotonic() + _START_SECONDS
        while not (context.sc_status() if secure else context.status()) & 1:
            self._refresh()
            if time.monotonic() > end:
                port = self._transport.port
                if secure and self._channel.has_heard:
                    raise ReaderOffline(
                        f"The OSDP reader on {port} opens no Secure Channel; check the key in scbk_file."
                    )
                raise ReaderOffline(f"No OSDP reader answers on {port}; check address, baud and the two wires.")
            time.sleep(REFRESH_SECONDS)
        self._channel.heard_ns = self._now_ns()

    def _drop_late_cards(self) -> None:
        # Whoever held them to the reader while the line was down may be gone: a late tap must not open a door.
        end = time.monotonic() + _LATE_SECONDS
        while time.monotonic() < end:
            self._refresh()
            time.sleep(REFRESH_SECONDS)
        kept = [event for event in self._arrived if event["event"] != self._library.Event.CardRead]
        self._late = len(self._arrived) - len(kept)
        self._arrived = deque(kept)

    def _refresh(self) -> None:
        if self._panel is None:
            raise ReaderOffline(f"{self._transport.port} is not open.")
        self._channel.begin_turn()
        self._panel.ctx.refresh()
        if self._channel.error:
            raise self._channel.error

    def turn(self) -> list[dict[str, Any]]:
        """Let libosdp work, and return what the reader has told since, oldest first.

        Returns:
            `{"kind": "card", "bits": n, "data": hex}`, `{"kind": "keys" | "late", "count": n}` or
            `{"kind": "local" | "input" | "output" | "remote", "levels": [n..]}`.

        Raises:
            ReaderOffline: the port is gone, or the reader has been silent for 1.5 s.
        """
        self._refresh()
        if self._now_ns() - self._channel.heard_ns > _SILENCE_NS:
            raise ReaderOffline(f"The OSDP reader on {self._transport.port} has stopped answering.")
        told: list[dict[str, Any]] = [{"kind": "late", "count": self._late}] if self._late else []
        self._late = 0
        while self._arrived:
            event = self._plain(self._arrived.popleft())
            if event:
                told.append(event)
        return told

    def _on_event(self, _device: int, event: dict[str, Any]) -> int:
        self._arrived.append(event)
        # libosdp keeps a queue of its own as well; nothing else empties it.
        self._panel.event_queue[0].get()
        return 0

    def _plain(self, event: dict[str, Any]) -> dict[str, Any] | None:
        kinds, reports = self._library.Event, self._library.StatusReportType
        if event["event"] == kinds.CardRead:
            return {"kind": "card", "bits": event["length"], "data": event["data"].hex()}
        if event["event"] == kinds.KeyPress:
            return {"kind": "keys", "count": len(event["data"])}
        if event["event"] == kinds.Status:
            names = {
                reports.Local: "local",
                reports.Input: "input",
                reports.Output: "output",
                reports.Remote: "remote",
            }
            return {"kind": names.get(event["type"], "unknown"), "levels": list(event["report"])}
        return None

    def show(self, signal: str) -> bool:
        """Show a signal with LED and buzzer; False when the reader has none, or is busy with signals before."""
        if self._panel is None:
            return False
        colours = self._library.CommandLEDColor
        colour, seconds, beeps = {
            Signal.GRANTED: (colours.Green, 2, 1),
            Signal.DENIED: (colours.Red, 2, 3),
            Signal.WAIT: (colours.Amber, 5, 0),
            Signal.FAULT: (colours.Red, 10, 0),
            Signal.IDENTIFY: (colours.Blue, 5, 2),
        }[Signal(signal)]
        shown = self._can(self._library.Capability.LEDControl) and self._submit(self._led(colour, seconds))
        if beeps and self._can(self._library.Capability.AudibleControl):
            shown = self._submit(self._buzzer(beeps)) or shown
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
        return {
            "command": self._library.Command.Buzzer,
            "reader": 0,
            "control_code": 2,  # the default tone
            "on_count": 1,
            "off_count": 1,
            "rep_count": times,
        }

    def _submit(self, command: dict[str, Any]) -> bool:
        try:
            return bool(self._panel.ctx.submit_command(0, command))
        except (SystemError, RuntimeError, ValueError):
            # libosdp holds four commands; a reader that is busy with those misses a flash, not a card.
            return False

    def _can(self, capability: int) -> bool:
        return any(self._panel.ctx.check_capability(0, capability))

    def close(self) -> None:
        self._panel = None
        self._transport.close()
