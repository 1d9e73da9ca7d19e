"""Keyboards as raw input events from /dev/input/..., taken away from the rest of the machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import time
from typing import Protocol

from gateway.errors import ReaderOffline

EVIOCGRAB = 0x40044590
# struct input_event on a 64-bit and on a 32-bit kernel ABI: time, type, code, value.
EVENT = struct.Struct("@llHHi")
_EVENTS = 64
# A key comes each 8 ms or so; a line that is under way at the opening ends with a silence.
_LISTEN_SECONDS, _SILENCE_SECONDS, _LONGEST_SECONDS = 0.03, 0.1, 1.0

InputEvent = tuple[int, int, int]
"""Type, code and value of linux/input.h."""


class InputTransport(Protocol):
    """One input device."""

    port: str

    def open(self) -> None:
        """Open and grab, so that taps do not type into a console.

        Raises:
            ReaderOffline: the device is missing, not permitted or grabbed by another program.
        """
        ...

    def read(self, timeout_seconds: float) -> list[InputEvent]:
        """Return what has arrived, waiting for the first event at most this long.

        Raises:
            ReaderOffline: the device is gone.
        """
        ...

    def close(self) -> None: ...


class InputDevice:
    """InputTransport over a kernel event node; name `/dev/input/by-id/usb-...-event-kbd`."""

    def __init__(self, port: str) -> None:
        self.port = port
        self._fd = -1

    def open(self) -> None:
        self.close()
        try:
            self._fd = os.open(self.port, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self._fd, EVIOCGRAB, 1)
            self._let_end()
        except OSError as error:
            self.close()
            raise ReaderOffline(
                f"{self.port} cannot be opened ({error.strerror}); check the name, the group input and other programs."
            ) from None

    def _let_end(self) -> None:
        """Drop earlier input, whose age is unknown, and the rest of the current line."""
        end = time.monotonic() + _LONGEST_SECONDS
        pause = _LISTEN_SECONDS
        while select.select([self._fd], [], [], pause)[0] and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                if not os.read(self._fd, EVENT.size * _EVENTS):
                    return
            pause = _SILENCE_SECONDS

    def read(self, timeout_seconds: float) -> list[InputEvent]:
        if self._fd < 0:
            raise ReaderOffline(f"{self.port} is not open.")
        try:
            if not select.select([self._fd], [], [], timeout_seconds)[0]:
                return []
            data = os.read(self._fd, EVENT.size * _EVENTS)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ReaderOffline(f"{self.port} is gone ({error.strerror}); plug the reader in again.") from None
        if not data:
            raise ReaderOffline(f"{self.port} is gone; plug the reader in again.")
        return [(kind, code, value) for _, _, kind, code, value in EVENT.iter_unpack(data)]

    def close(self) -> None:
        if self._fd >= 0:
            # Closing releases the grab.
            os.close(self._fd)
            self._fd = -1
