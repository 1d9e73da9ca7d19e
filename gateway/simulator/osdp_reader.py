"""An OSDP reader at the far end of a pseudo terminal.

It is libosdp's own peripheral device, so the driver meets another's idea of the protocol.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from gateway.cards.wiegand import word_of
from gateway.simulator.line_readers import PtyEnd

_REFRESH_SECONDS = 0.002


class _FarChannel:
    def __init__(self, end: OsdpDevice) -> None:
        self.id = 0
        self._end = end
        self._rest = b""

    def read(self, max_bytes: int) -> bytes:
        try:
            self._rest += self._end.hear()
        except OSError:
            return b""
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    def write(self, data: bytes) -> int:
        try:
            self._end.say(data)
        except OSError:
            return len(data)
        return len(data)

    def flush(self) -> None:
        self._rest = b""


class OsdpWires(PtyEnd):
    """The two wires of a line with several devices: each hears the panel and all the others."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._heard: dict[object, bytes] = {}

    def join(self, device: object) -> None:
        self._heard[device] = b""

    def hear(self, device: object) -> bytes:
        """Return the traffic since this device last listened."""
        with self._lock:
            self._spread(self.received())
            data, self._heard[device] = self._heard[device], b""
            return data

    def say(self, device: object, data: bytes) -> None:
        with self._lock:
            self.send(data)
            self._spread(data, device)

    def _spread(self, data: bytes, speaker: object = None) -> None:
        for device in self._heard:
            if device is not speaker:
                self._heard[device] += data


class OsdpDevice(PtyEnd):
    """One peripheral device.

    Args:
        wires: what it shares with others; None gives it a line of its own.
        key: its Secure Channel base key, None for a plain reader.
        inputs: how many contacts can be wired to it; it refuses what it has not (NAK).
        has_lamp: False for a reader with neither LED nor buzzer.

    Attributes:
        shown: the LED and buzzer commands it got.
        mute: True for a reader that hangs.
    """

    def __init__(
        self,
        address: int = 0,
        key: bytes | None = None,
        inputs: int = 0,
        *,
        has_lamp: bool = True,
        wires: OsdpWires | None = None,
    ) -> None:
        import osdp  # noqa: PLC0415  # an extra

        super().__init__()
        self._wires = wires
        if wires is not None:
            wires.join(self)
        self.mute = False
        self.shown: list[dict[str, Any]] = []
        self._library = osdp
        capability = osdp.Capability
        self._device = osdp.PeripheralDevice(
            osdp.PDInfo(address, _FarChannel(self), scbk=key, flags=[osdp.LibFlag.EnforceSecure] if key else []),
            osdp.PDCapabilities(
                [
                    (capability.CommunicationSecurity, 1, 1),
                    (capability.Readers, 0, 1),
                    *([(capability.AudibleControl, 1, 1), (capability.LEDControl, 1, 1)] if has_lamp else []),
                    *([(capability.ContactStatusMonitoring, 1, inputs)] if inputs else []),
                ]
            ),
            log_level=osdp.LogLevel.Emergency,
            command_handler=self._on_command,
        )
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hear(self) -> bytes:
        return self._wires.hear(self) if self._wires else self.received()

    def say(self, data: bytes) -> None:
        if self._wires:
            self._wires.say(self, data)
        else:
            self.send(data)

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self.mute:
                # A hung reader hears nothing; it must not answer old questions later.
                with contextlib.suppress(OSError):
                    self.hear()
            else:
                with self._lock:
                    self._device.ctx.refresh()
            time.sleep(_REFRESH_SECONDS)

    def _on_command(self, command: dict[str, Any]) -> tuple[int, None]:
        self.shown.append(command)
        return 0, None

    def set_local(self, *, tampered: bool = False, mains_lost: bool = False) -> None:
        """Open its case, or take its mains away."""
        self._tell(self._library.StatusReportType.Local, bytes([tampered, mains_lost]))

    def set_inputs(self, *levels: bool) -> None:
        """Move the contacts at its inputs."""
        self._tell(self._library.StatusReportType.Input, bytes(levels))

    def _tell(self, kind: int, levels: bytes) -> None:
        with self._lock:
            self._device.ctx.submit_event({"event": self._library.Event.Status, "type": kind, "report": levels})

    def press(self, keys: str) -> None:
        """Type at its keypad; the key codes are those of the standard, ASCII digits."""
        with self._lock:
            self._device.ctx.submit_event(
                {"event": self._library.Event.KeyPress, "reader_no": 0, "data": keys.encode("ascii")}
            )

    def tap(self, uid: bytes) -> None:
        """Report a whole UID, as smart card readers do."""
        self._report(uid, len(uid) * 8)

    def tap_wiegand(self, number: bytes) -> None:
        """Report a Wiegand word with parity."""
        word, bits = word_of(number)
        self._report((word << -bits % 8).to_bytes((bits + 7) // 8, "big"), bits)

    def _report(self, data: bytes, bits: int) -> None:
        with self._lock:
            self._device.ctx.submit_event(
                {
                    "event": self._library.Event.CardRead,
                    "reader_no": 0,
                    "format": self._library.CardFormat.Unspecified,
                    "direction": 0,
                    "length": bits,
                    "data": data,
                }
            )

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        super().close()
