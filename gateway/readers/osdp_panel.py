"""Wraps libosdp: one control panel with one peripheral device, whose methods return JSON-compatible values.

It runs on the bus thread, because libosdp's own thread dies silently at the first serial error. Its channel never
raises. It works only when the line gives it a turn (osdp_line.py), because several readers may share the wires. Silence
is measured here, because libosdp would rest for 300 s after losing a reader. Nothing is requested beyond the reader's
stated capabilities, because libosdp treats one refused command (NAK) as a lost reader. Key presses never leave this
file: they may be a PIN.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError, MissingExtra, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.osdp_line import OsdpLine

REFRESH_SECONDS = 0.002
_START_SECONDS = 1.65
# Readers keep cards that they could not report, and report one per poll, every 50 ms.
_LATE_SECONDS = 0.2
_SILENCE_NS = 1_500_000_000
_KEY_BYTES = 16
_TENTHS = 10  # libosdp counts LED and buzzer times in 100 ms
_LONGEST = 512
_EVENTS_KEPT = 256
# How often a silent reader is called beside others, and how long one that has answered may take to come up.
_CALL_NS, _HANDSHAKE_NS = 1_000_000_000, 1_650_000_000


class _Channel:
    """What libosdp reads and writes; an exception in here would end it, so it keeps the error instead."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.id = 0
        self.error: ReaderOffline | None = None
        self._write = write
        self._rest = b""

    def take(self, frame: bytes) -> None:
        # What is more than a few frames is old; libosdp's own buffer would flow over and say so on the console.
        self._rest = (self._rest + frame)[-_LONGEST:]

    def read(self, max_bytes: int) -> bytes:
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    def write(self, data: bytes) -> int:
        try:
            self._write(data)
        except ReaderOffline as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        self._rest = b""


class LibosdpPanel:
    """The control panel of one reader on a line.

    Args:
        key_file: file with the Secure Channel base key, 32 hex digits; empty for a plain line.
    """

    def __init__(
        self,
        line: OsdpLine,
        address: int,
        key_file: str,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.address = address
        self.is_called = False
        self._line = line
        self._key_file = key_file
        self._now_ns = now_ns
        self._channel = _Channel(self._ask)
        self._library: Any = None
        self._panel: Any = None
        self._key_bytes: bytes | None = None
        self._arrived: deque[dict[str, Any]] = deque(maxlen=_EVENTS_KEPT)
        self._late = 0
        self._heard_ns = 0
        self._has_heard = False
        self._begun_ns = 0
        self._opening = 0

    def open(self) -> None:
        """Bring the reader up and drop the cards it has kept; at most 1.9 s.

        A reader that was silent before is called while the others on its line work: then this returns at once, and
        succeeds when the reader has answered meanwhile.

        Raises:
            ReaderOffline: the port is gone, the reader is silent, or it has another key.
            ConfigError: the key file holds no key.
            MissingExtra: libosdp is not installed.
        """
        self._library = self._import()
        self._key_bytes = self._key()
        was_called = self._line.calls(self)
        if not was_called:
            self.close()
        self._line.enter(self)
        if not was_called:
            self._restart()
        # Once after each opening of the port the others wait, so that all of them are up together.
        waits = self._opening != self._line.openings or not self._line.has_others(self)
        self._opening = self._line.openings
        try:
            self._wait_until_up(_START_SECONDS if waits else 0.0)
        except ReaderOffline:
            self._leave()
            raise
        if was_called:
            self._late, kept = self._without_cards()
            self._arrived = kept
        else:
            self._drop_late_cards()
        self.is_called = False
        self._heard_ns = self._now_ns()
        # Its status is not asked for: peripherals built on libosdp answer the question with zeros, which would end an
        # ongoing alarm. The reader itself reports changes, also after a lost line.

    def _restart(self) -> None:
        library = self._library
        self._channel = _Channel(self._ask)
        self._has_heard = False
        self._begun_ns = self._now_ns()
        flags = [library.LibFlag.EnforceSecure] if self._key_bytes else []
        device = library.PDInfo(self.address, self._channel, scbk=self._key_bytes, flags=flags)
        self._panel = library.ControlPanel([device], log_level=library.LogLevel.Emergency)
        self._panel.set_event_handler(self._on_event)

    def _ask(self, question: bytes) -> None:
        self._line.write(self, question)

    def take(self, frame: bytes) -> None:
        """Take one answer of this reader from the line."""
        self._heard_ns = self._now_ns()
        self._has_heard = True
        self._channel.take(frame)

    @staticmethod
    def _import() -> Any:
        try:
            import osdp  # noqa: PLC0415  # only this driver needs it
        except ImportError as error:
            raise MissingExtra("Driver osdp needs libosdp; install tapgate[osdp].") from error
        if not hasattr(osdp, "LibFlag"):
            raise MissingExtra("The package osdp shadows libosdp; uninstall it, then install tapgate[osdp].")
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

    @property
    def _is_up(self) -> bool:
        context = self._panel.ctx
        return bool((context.sc_status() if self._key_bytes else context.status()) & 1)

    def _wait_until_up(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_up:
            self._line.pump()
            if time.monotonic() > end:
                port = f"{self._line.port}, address {self.address}"
                if self._key_bytes and self._has_heard:
                    raise ReaderOffline(
                        f"The OSDP reader on {port} did not open a Secure Channel; check the key in scbk_file."
                    )
                raise ReaderOffline(f"No OSDP reader answers on {port}; check address, baud and the two wires.")
            time.sleep(REFRESH_SECONDS)

    def _drop_late_cards(self) -> None:
        # The person may have left while the line was down: a late tap must not open a door.
        end = time.monotonic() + _LATE_SECONDS
        while time.monotonic() < end:
            self._line.pump()
            time.sleep(REFRESH_SECONDS)
        self._late, self._arrived = self._without_cards()

    def _without_cards(self) -> tuple[int, deque[dict[str, Any]]]:
        others = (event for event in self._arrived if event["event"] != self._library.Event.CardRead)
        kept = deque(others, maxlen=_EVENTS_KEPT)
        return len(self._arrived) - len(kept), kept

    def refresh(self) -> None:
        """Let libosdp work; the line calls this when it is this reader's turn."""
        if self.is_called and not self._is_up and self._now_ns() - self._begun_ns > self._patience_ns():
            # libosdp would rest for minutes; a new panel asks at once.
            self._restart()
        self._panel.ctx.refresh()
        if self._channel.error:
            error, self._channel.error = self._channel.error, None
            raise error

    def _patience_ns(self) -> int:
        return _HANDSHAKE_NS if self._has_heard else _CALL_NS

    def turn(self) -> list[dict[str, Any]]:
        """Let libosdp work, and return what the reader has reported since, oldest first.

        Returns:
            `{"kind": "card", "bits": n, "data": hex}`, `{"kind": "keys" | "late", "count": n}` or
            `{"kind": "local" | "input" | "output" | "remote", "levels": [n..]}`.

        Raises:
            ReaderOffline: the port is gone, or the reader has been silent for 1.5 s.
        """
        if self._panel is None or self.is_called:
            raise ReaderOffline(f"{self._line.port} is not open.")
        self._line.pump()
        if self._now_ns() - self._heard_ns > _SILENCE_NS:
            raise ReaderOffline(f"The OSDP reader on {self._line.port}, address {self.address}, has stopped answering.")
        reports: list[dict[str, Any]] = [{"kind": "late", "count": self._late}] if self._late else []
        self._late = 0
        while self._arrived:
            event = self._plain(self._arrived.popleft())
            if event:
                reports.append(event)
        return reports

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
        self._leave()
        if not self.is_called:
            self._panel = None

    def _leave(self) -> None:
        """Leave the line; while others use it, it is still called, with a new panel."""
        if self._panel is None:
            return
        was_called = self.is_called
        self.is_called = self._line.has_others(self)
        self._line.leave(self)
        if self.is_called and not was_called:
            self._restart()
