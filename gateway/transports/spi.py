"""SPI through /dev/spidevB.D: a whole radio frame in one system call.

py-spidev moves one transfer a call. The kernel takes a chain of them in one SPI_IOC_MESSAGE(n), so a frame of seven
register accesses with a wait in the middle costs one call, made by the standard library's fcntl alone.
"""

from __future__ import annotations

import array
import fcntl
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import ReaderOffline

# linux/spi/spidev.h: _IOC(write, 'k', number, size) is 1 << 30 | size << 16 | ord('k') << 8 | number.
SPI_IOC_WR_MODE = 0x40016B01
SPI_IOC_WR_BITS_PER_WORD = 0x40016B03
SPI_IOC_WR_MAX_SPEED_HZ = 0x40046B04
MODE_0 = 0

# struct spi_ioc_transfer: tx_buf, rx_buf, len, speed_hz, delay_usecs, bits_per_word, cs_change, tx_nbits, rx_nbits,
# word_delay_usecs, pad.
_TRANSFER = struct.Struct("=QQIIHBBBBBx")
_MAX_DELAY_US = 0xFFFF


def spi_ioc_message(count: int) -> int:
    """Return the request number of SPI_IOC_MESSAGE(count)."""
    return 0x40006B00 | count * _TRANSFER.size << 16


@dataclass(frozen=True, slots=True)
class Transfer:
    """One chip-select period: what is sent, and how long to wait after it before the next one."""

    data: bytes
    delay_us: int = 0


class SpiMessage:
    """A chain of transfers with its buffers, prepared once and exchanged many times.

    Attributes:
        tx: what each transfer sends; change the bytes in place, never the length.
        rx: what each transfer received at the last exchange, as long as its tx.
    """

    __slots__ = ("_addresses", "delays_us", "packed", "request", "rx", "tx")

    def __init__(self, transfers: Sequence[Transfer]) -> None:
        self.tx = tuple(array.array("B", item.data) for item in transfers)
        self.rx = tuple(array.array("B", bytes(len(item.data))) for item in transfers)
        self.delays_us = tuple(item.delay_us for item in transfers)
        if any(delay > _MAX_DELAY_US for delay in self.delays_us):
            raise ValueError("the kernel takes at most 65535 us between two transfers")
        self.request = spi_ioc_message(len(transfers))
        self.packed = b"".join(self._pack(place) for place in range(len(transfers)))

    def _pack(self, place: int) -> bytes:
        # cs_change = 1 ends the chip-select period after a transfer; on the last one it would keep the chip selected.
        last = place == len(self.tx) - 1
        tx, length = self.tx[place].buffer_info()
        rx, _ = self.rx[place].buffer_info()
        return _TRANSFER.pack(tx, rx, length, 0, self.delays_us[place], 8, 0 if last else 1, 0, 0, 0)


class SpiTransport(Protocol):
    """One chip-select line of an SPI bus."""

    port: str
    single: bool
    """One call a transfer instead of one a message, for kernels that do not honour cs_change or delays."""

    def open(self) -> None:
        """Open exclusively and set mode and speed.

        Raises:
            ReaderOffline: the device is missing, not permitted or in use.
        """
        ...

    def exchange(self, message: SpiMessage) -> None:
        """Send a chain and fill its rx buffers; returns after the last transfer.

        Raises:
            ReaderOffline: the bus refused.
        """
        ...

    def set_speed(self, speed_hz: int) -> None: ...

    def close(self) -> None: ...


class SpiDevice:
    """SpiTransport over a kernel spidev node."""

    def __init__(self, port: str, speed_hz: int) -> None:
        self.port = port
        self.single = False
        self._speed_hz = speed_hz
        self._fd = -1

    def open(self) -> None:
        self.close()
        try:
            self._fd = os.open(self.port, os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.ioctl(self._fd, SPI_IOC_WR_MODE, bytes([MODE_0]))
            fcntl.ioctl(self._fd, SPI_IOC_WR_BITS_PER_WORD, bytes([8]))
            self.set_speed(self._speed_hz)
        except BlockingIOError:
            self.close()
            raise ReaderOffline(f"{self.port} is in use by another program; stop that program.") from None
        except OSError as error:
            self.close()
            raise ReaderOffline(
                f"{self.port} cannot be opened ({error.strerror}); check dtparam=spi=on and the permissions."
            ) from None

    def set_speed(self, speed_hz: int) -> None:
        self._speed_hz = speed_hz
        if self._fd >= 0:
            fcntl.ioctl(self._fd, SPI_IOC_WR_MAX_SPEED_HZ, struct.pack("=I", speed_hz))

    def exchange(self, message: SpiMessage) -> None:
        try:
            if not self.single:
                fcntl.ioctl(self._fd, message.request, message.packed)
                return
            for place, delay_us in enumerate(message.delays_us):
                # The wait stays in the transfer as well; a kernel that honours it only makes the frame longer.
                entry = bytearray(message.packed[place * _TRANSFER.size : (place + 1) * _TRANSFER.size])
                entry[27] = 0
                fcntl.ioctl(self._fd, spi_ioc_message(1), bytes(entry))
                if delay_us:
                    time.sleep(delay_us / 1e6)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "not open"
            raise ReaderOffline(
                f"{self.port} does not take a transfer ({why}); check the overlay and wiring."
            ) from None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
