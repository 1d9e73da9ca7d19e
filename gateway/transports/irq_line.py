"""The interrupt pin of a chip as a line of the kernel's GPIO character device, second version of its interface.

A falling edge is an event to read from a file descriptor, with the kernel's own time stamp; nothing polls the level.
Offsets of the header's controller are BCM numbers on every Raspberry Pi. linux/gpio.h: gpio_v2_line_request.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
from collections.abc import Iterator, Sequence
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


@contextlib.contextmanager
def open_chip(name: str, what: str) -> Iterator[int]:
    """Open a GPIO controller for a moment.

    Args:
        name: its label or the path of its device; empty for the one of a Raspberry Pi's header.
        what: the pins that it is opened for, for the error's sentence.

    Raises:
        ReaderOffline: there is no such controller, or it may not be used.
    """
    why = f"there is no GPIO controller {name}" if name else "there is no GPIO controller of a header"
    paths = [name] if name.startswith("/") else [f"/dev/gpiochip{number}" for number in range(_CONTROLLERS)]
    for path in paths:
        try:
            chip = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            why = str(error.strerror)
            continue
        try:
            label = b"" if name.startswith("/") else _label_of(chip)
        except OSError as error:
            why = str(error.strerror)
            os.close(chip)
            continue
        if name.startswith("/") or (label == name.encode() if name else label.startswith(_HEADER)):
            try:
                yield chip
            finally:
                os.close(chip)
            return
        os.close(chip)
    raise ReaderOffline(f"{what} cannot be monitored ({why}).")


def _label_of(chip: int) -> bytes:
    info = bytearray(_CHIP_INFO.size)
    fcntl.ioctl(chip, GPIO_GET_CHIPINFO, info)
    label: bytes = _CHIP_INFO.unpack(info)[1]
    return label.rstrip(b"\0")


def request_lines(chip: int, offsets: Sequence[int], flags: int, consumer: bytes, events_kept: int) -> int:
    """Take lines of an open controller with one request; returns the descriptor that their events come from.

    Raises:
        OSError: another program has one of them, or there is none of that number.
    """
    packed = struct.pack(f"={len(offsets)}I", *offsets)
    request = bytearray(_REQUEST.pack(packed, consumer, flags, len(offsets), events_kept, -1))
    fcntl.ioctl(chip, GPIO_V2_GET_LINE, request)
    fd: int = _REQUEST.unpack(request)[-1]
    os.set_blocking(fd, False)
    return fd


class GpioIrqLine:
    """An interrupt pin by its BCM number, pulled up."""

    def __init__(self, gpio: int) -> None:
        self._gpio = gpio
        self._fd = -1
        self._poll = select.poll()

    def open(self) -> None:
        self.close()
        what = f"GPIO {self._gpio}"
        with open_chip("", what) as chip:
            try:
                flags = FLAG_INPUT | FLAG_EDGE_FALLING | FLAG_BIAS_PULL_UP
                self._fd = request_lines(chip, (self._gpio,), flags, b"tapgate irq", _EVENTS_KEPT)
            except OSError as error:
                raise ReaderOffline(f"{what} cannot be monitored ({error.strerror}).") from None
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
