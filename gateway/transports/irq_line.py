"""The interrupt pin of a chip as a line of the kernel's GPIO character device, second version of its interface.

A falling edge is an event to read from a file descriptor, with the kernel's own time stamp; nothing polls the level.
Offsets of the header's controller are BCM numbers on every Raspberry Pi. linux/gpio.h: gpio_v2_line_request.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from typing import Protocol

from gateway.errors import ReaderOffline

# _IOR(0xB4, 1, struct gpiochip_info), _IOWR(0xB4, 7, struct gpio_v2_line_request)
GPIO_GET_CHIPINFO = 0x8044B401
GPIO_V2_GET_LINE = 0xC250B407
FLAG_INPUT, FLAG_EDGE_FALLING, FLAG_BIAS_PULL_UP = 1 << 2, 1 << 5, 1 << 8

# name, label, lines
_CHIP_INFO = struct.Struct("=32s32sI")
# offsets[64], consumer, flags, attributes (none), lines, event buffer, fd
_REQUEST = struct.Struct("=256s32sQ264xII20xi")
_EVENT_BYTES = 48
_EVENTS_KEPT = 16
_CONTROLLERS = 16
# bcm2835 and bcm2711 name their controller pinctrl-bcm..., the Pi 5 names the header's pinctrl-rp1.
_HEADER = b"pinctrl-"


class IrqLine(Protocol):
    """A pin that a chip pulls low when it is done."""

    def open(self) -> None:
        """Take the line.

        Raises:
            ReaderOffline: there is no such line, or another program has it.
        """
        ...

    def drain(self) -> None:
        """Forget the edges so far."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait for an edge; False when none came in time."""
        ...

    def close(self) -> None:
        """Release the line; may be called twice."""
        ...


class GpioIrqLine:
    """An interrupt pin by its BCM number, pulled up."""

    def __init__(self, gpio: int) -> None:
        self._gpio = gpio
        self._fd = -1
        self._poll = select.poll()

    def open(self) -> None:
        self.close()
        why = "there is no GPIO controller of a header"
        for number in range(_CONTROLLERS):
            try:
                chip = os.open(f"/dev/gpiochip{number}", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                why = str(error.strerror)
                continue
            try:
                if self._is_header(chip):
                    self._take(chip)
                    return
            except OSError as error:
                why = str(error.strerror)
            finally:
                os.close(chip)
        raise ReaderOffline(f"GPIO {self._gpio} cannot be watched ({why}).")

    @staticmethod
    def _is_header(chip: int) -> bool:
        info = bytearray(_CHIP_INFO.size)
        fcntl.ioctl(chip, GPIO_GET_CHIPINFO, info)
        label: bytes = _CHIP_INFO.unpack(info)[1]
        return label.startswith(_HEADER)

    def _take(self, chip: int) -> None:
        flags = FLAG_INPUT | FLAG_EDGE_FALLING | FLAG_BIAS_PULL_UP
        offsets = struct.pack("=I", self._gpio)
        request = bytearray(_REQUEST.pack(offsets, b"tapgate irq", flags, 1, _EVENTS_KEPT, -1))
        fcntl.ioctl(chip, GPIO_V2_GET_LINE, request)
        self._fd = _REQUEST.unpack(request)[-1]
        os.set_blocking(self._fd, False)
        self._poll.register(self._fd, select.POLLIN)

    def drain(self) -> None:
        while self._fd >= 0 and self._poll.poll(0):
            if not self._read():
                return

    def wait(self, seconds: float) -> bool:
        if self._fd < 0:
            return False
        # poll counts whole milliseconds; the remainder is worth one more.
        return bool(self._poll.poll(int(seconds * 1000) + 1)) and self._read()

    def _read(self) -> bool:
        try:
            return len(os.read(self._fd, _EVENT_BYTES * _EVENTS_KEPT)) >= _EVENT_BYTES
        except BlockingIOError:
            return False

    def close(self) -> None:
        if self._fd >= 0:
            self._poll.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1
