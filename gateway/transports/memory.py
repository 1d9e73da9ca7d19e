"""Joined ends without a kernel between them: an SPI chip in this process, and a pair of byte pipes."""

from __future__ import annotations

import array
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from gateway.errors import ReaderOffline
from gateway.transports.spi import SpiMessage

_EVENTS = 64


class SpiChip(Protocol):
    """The far end of a chip-select line."""

    def transfer(self, data: bytes | array.array[int]) -> bytes:
        """Answer one chip-select period, one byte for each byte sent.

        Raises:
            OSError: the bus fails, as an ioctl would.
        """
        ...


class MemorySpi:
    """SpiTransport whose far end is an object.

    Args:
        sleep: waits the given seconds; a test with its own clock hands in that clock's.

    Attributes:
        honours_cs_change: False joins all transfers of a message into one, as a kernel without cs_change does.
        honours_delays: False skips the waits inside a message.
    """

    def __init__(self, port: str, chip: SpiChip, sleep: Callable[[float], None] = time.sleep) -> None:
        self.port = port
        self.single = False
        self.honours_cs_change = True
        self.honours_delays = True
        self.speed_hz = 0
        self.transfers = 0
        self.messages = 0
        self._chip = chip
        self._sleep = sleep
        self._open = False

    def open(self) -> None:
        self._open = True

    def set_speed(self, speed_hz: int) -> None:
        self.speed_hz = speed_hz

    def exchange(self, message: SpiMessage) -> None:
        if not self._open:
            raise ReaderOffline(f"{self.port} is not open.")
        self.messages += len(message.tx) if self.single else 1
        self.transfers += len(message.tx)
        try:
            if self.single or self.honours_cs_change:
                self._exchange(message)
            else:
                self._exchange_joined(message)
        except OSError as error:
            raise ReaderOffline(f"{self.port} does not take a transfer ({error.strerror}).") from None

    def _exchange(self, message: SpiMessage) -> None:
        transfer = self._chip.transfer
        for sent, received, delay_us in zip(message.tx, message.rx, message.delays_us, strict=True):
            received[:] = array.array("B", transfer(sent))
            if delay_us and (self.single or self.honours_delays):
                self._sleep(delay_us / 1e6)

    def _exchange_joined(self, message: SpiMessage) -> None:
        answer = self._chip.transfer(b"".join(sent.tobytes() for sent in message.tx))
        for received in message.rx:
            received[:], answer = array.array("B", answer[: len(received)]), answer[len(received) :]

    def close(self) -> None:
        self._open = False


class MemoryKeyboard:
    """InputTransport whose far end types."""

    def __init__(self, port: str) -> None:
        self.port = port
        self._events: queue.SimpleQueue[tuple[int, int, int] | None] = queue.SimpleQueue()
        self._plugged = True
        self._open = False

    def open(self) -> None:
        if not self._plugged:
            raise ReaderOffline(f"{self.port} cannot be taken (No such file or directory).")
        while not self._events.empty():
            self._events.get()
        self._open = True

    def read(self, timeout_seconds: float) -> list[tuple[int, int, int]]:
        arrived: list[tuple[int, int, int]] = []
        try:
            event = self._events.get(timeout=timeout_seconds) if self._open and self._plugged else None
            while event is not None:
                arrived.append(event)
                if len(arrived) == _EVENTS:
                    # As much as one read of the kernel's node gives; a key that is stuck must not keep its reader here.
                    return arrived
                event = self._events.get_nowait()
        except queue.Empty:
            return arrived
        raise ReaderOffline(f"{self.port} is gone.")

    def press(self, kind: int, code: int, value: int) -> None:
        """Send one event from the far end."""
        self._events.put((kind, code, value))

    def unplug(self) -> None:
        self._plugged = False
        self._events.put(None)

    def plug(self) -> None:
        self._plugged = True
        self._open = False

    def close(self) -> None:
        self._open = False


class MemorySerial:
    """SerialTransport whose far end is another MemorySerial; make two with `joined`."""

    def __init__(self, port: str) -> None:
        self.port = port
        self.far: MemorySerial | None = None
        self._arrived = bytearray()
        self._changed = threading.Condition()
        self._open = False
        self._unplugged = False

    @classmethod
    def joined(cls, port: str) -> tuple[MemorySerial, MemorySerial]:
        """Return the near and the far end of a line."""
        near, far = cls(port), cls(f"{port} (far end)")
        near.far, far.far = far, near
        far.open()
        return near, far

    def open(self) -> None:
        with self._changed:
            if self._unplugged:
                raise ReaderOffline(f"{self.port} cannot be opened (No such file or directory).")
            self._arrived.clear()
            self._open = True

    def read(self, timeout_seconds: float) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or not self._open or self._unplugged, timeout_seconds)
            if not self._open or self._unplugged:
                raise ReaderOffline(f"The serial port {self.port} is gone.")
            data = bytes(self._arrived)
            self._arrived.clear()
            return data

    def write(self, data: bytes) -> None:
        if not self._open or self._unplugged or self.far is None:
            raise ReaderOffline(f"The serial port {self.port} is gone.")
        self.far._receive(data)  # noqa: SLF001  # the two ends are one thing

    def unplug(self) -> None:
        """Pull this end out; it stays away until `plug`."""
        with self._changed:
            self._unplugged = True
            self._changed.notify_all()

    def plug(self) -> None:
        with self._changed:
            self._unplugged = False
            self._open = False

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def _receive(self, data: bytes) -> None:
        with self._changed:
            if self._open and not self._unplugged:
                self._arrived += data
                self._changed.notify_all()
