"""Serial ports: pyserial opens and configures, the reading is ours.

Fixed-length reads and readline lose step after one stray byte, so a read here gives whatever has arrived. Always name
`/dev/serial/by-id/...`: a plain ttyUSB number changes when an adapter is plugged in again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import termios
from typing import Any, Protocol

from gateway.errors import ReaderOffline

_READ_BYTES = 4096
_WRITE_SECONDS = 0.05


class SerialTransport(Protocol):
    """One serial line."""

    port: str

    def open(self) -> None:
        """Open exclusively and forget what arrived before.

        Raises:
            ReaderOffline: the port is missing, not permitted or in use.
        """
        ...

    def read(self, timeout_seconds: float) -> bytes:
        """Return what has arrived, waiting for the first byte at most this long; empty when the line stayed silent.

        Raises:
            ReaderOffline: the port is gone.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send all bytes.

        Raises:
            ReaderOffline: the port is gone or takes no bytes for 50 ms: a hung adapter, whose buffer is full.
        """
        ...

    def close(self) -> None: ...


class SerialPort:
    """SerialTransport over a kernel tty."""

    def __init__(self, port: str, baud: int) -> None:
        self.port = port
        self._baud = baud
        self._serial: Any = None
        self._poll = select.poll()

    def open(self) -> None:
        import serial  # noqa: PLC0415  # a gateway with SPI readers alone never needs it

        self.close()
        try:
            # pyserial's exclusive is an advisory lock; TIOCEXCL also keeps out programs that do not ask for it.
            opened = serial.Serial(self.port, self._baud, timeout=0, write_timeout=_WRITE_SECONDS, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            number = getattr(error, "errno", None)
            why = os.strerror(number) if number else "refused"
            raise ReaderOffline(f"{self.port} cannot be opened ({why}); check cable, name and permissions.") from None
        self._serial = opened
        with contextlib.suppress(OSError):
            fcntl.ioctl(opened.fileno(), termios.TIOCEXCL)
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            # Only drivers with a latency timer know this request; FTDI waits 16 ms without it.
            opened.set_low_latency_mode(True)
        self._poll = select.poll()
        self._poll.register(opened.fileno(), select.POLLIN)
        with contextlib.suppress(OSError, termios.error):
            opened.reset_input_buffer()

    def read(self, timeout_seconds: float) -> bytes:
        if self._serial is None:
            raise self._gone("it is not open")
        try:
            if not self._poll.poll(timeout_seconds * 1000):
                return b""
            data = os.read(self._serial.fileno(), _READ_BYTES)
        except BlockingIOError:
            return b""
        except (OSError, TypeError) as error:
            raise self._gone(getattr(error, "strerror", None) or "closed") from None
        if not data:
            # Readable without data is how the kernel says that the device was pulled out.
            raise self._gone("unplugged")
        return data

    def write(self, data: bytes) -> None:
        if self._serial is None:
            raise self._gone("it is not open")
        try:
            self._serial.write(data)
        except (OSError, TypeError) as error:  # SerialException is an OSError
            raise self._gone(getattr(error, "strerror", None) or "it takes no bytes") from None

    def close(self) -> None:
        opened, self._serial = self._serial, None
        if opened is not None:
            with contextlib.suppress(OSError, termios.error):
                opened.close()

    def _gone(self, why: str) -> ReaderOffline:
        return ReaderOffline(f"The serial port {self.port} is gone ({why}); plug the reader in again.")
