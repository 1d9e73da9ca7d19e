"""Falling edges of several pins, as records of the kernel's GPIO character device with its time stamps."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Protocol

from gateway.errors import ReaderOffline
from gateway.transports.irq_line import FLAG_BIAS_PULL_UP, FLAG_EDGE_FALLING, FLAG_INPUT, open_chip, request_lines

PREFIX = "gpiochip:"
HEADER = "header"
# As many as the kernel keeps for one request (GPIO_V2_LINES_MAX * 16): 30 words that nobody has read yet.
_EVENTS_KEPT = 1024
_READ_BYTES = 48 * 128


class EdgeLines(Protocol):
    """Pins whose falling edges are reported one by one, oldest first."""

    def open(self) -> None:
        """Take the pins.

        Raises:
            ReaderOffline: there is no such controller, or another program has one of them.
        """
        ...

    def read(self, timeout_seconds: float) -> bytes:
        """Return the records that have come, struct gpio_v2_line_event, waiting for the first at most this long.

        Raises:
            ReaderOffline: the pins are gone.
        """
        ...

    def close(self) -> None:
        """Release the pins; may be called twice."""
        ...


class GpioEdgeLines:
    """EdgeLines over a GPIO character device.

    Args:
        port: `gpiochip:header`, `gpiochip:LABEL` or the path of a device.
    """

    def __init__(self, port: str, offsets: Sequence[int]) -> None:
        self._port = port
        self._offsets = tuple(offsets)
        self._fd = -1

    def open(self) -> None:
        self.close()
        pins = " and ".join(f"GPIO {offset}" for offset in self._offsets)
        label = self._port.removeprefix(PREFIX)
        with open_chip("" if label == HEADER else label, pins) as chip:
            try:
                flags = FLAG_INPUT | FLAG_EDGE_FALLING | FLAG_BIAS_PULL_UP
                self._fd = request_lines(chip, self._offsets, flags, b"tapgate wiegand", _EVENTS_KEPT)
            except OSError as error:
                raise ReaderOffline(
                    f"{pins} cannot be monitored ({error.strerror}); another program is using one of them."
                ) from None

    def read(self, timeout_seconds: float) -> bytes:
        if self._fd < 0:
            raise ReaderOffline(f"{self._port} is not open.")
        try:
            if not select.select([self._fd], [], [], timeout_seconds)[0]:
                return b""
            return os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise ReaderOffline(f"{self._port} is gone ({error.strerror}).") from None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
