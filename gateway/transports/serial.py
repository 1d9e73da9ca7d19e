"""Serial ports: pyserial opens and configures, reading and writing are ours.

A parity or framing error reads as a zero byte, which no number holds, so that damage never passes for text. Losses to
another program are told by port_watch.py. Fixed-length reads and readline lose step after one stray byte, so a read
here gives whatever has arrived. Always name `/dev/serial/by-id/...`: a plain ttyUSB number changes when an adapter is
plugged in again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import termios
import time
from typing import Any, Protocol

from gateway.errors import ReaderOffline
from gateway.transports.port_watch import PortWatch

_READ_BYTES = 4096
_WRITE_SECONDS = 0.05
# A line that is under way at the opening has lost its beginning: listen this long for one, and let it end.
_LISTEN_SECONDS = 0.02
_LONGEST_SECONDS = 0.3

FRAMINGS = tuple(f"{data}{parity}{stop}" for data in (7, 8) for parity in "NEO" for stop in (1, 2))
"""Data bits, parity and stop bits, such as `8N1` or `7E1`."""


class SerialTransport(Protocol):
    """One serial line.

    A kernel port has two more attributes: `losses`, which grows when bytes of it may have gone elsewhere, and
    `intruder`, a sentence while another program has it open; lines in memory lose nothing and have neither.
    """

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
    """SerialTransport over a kernel tty.

    Args:
        framing: one of FRAMINGS.
    """

    def __init__(self, port: str, baud: int, framing: str = "8N1") -> None:
        self.port = port
        self._baud = baud
        self._framing = framing
        self._watch: PortWatch | None = None
        self._serial: Any = None
        self._poll = select.poll()

    def open(self) -> None:
        import serial  # noqa: PLC0415  # a gateway with SPI readers alone never needs it

        self.close()
        try:
            # pyserial's exclusive is an advisory lock; TIOCEXCL also keeps out programs that do not ask for it.
            opened = serial.Serial(
                self.port,
                self._baud,
                int(self._framing[0]),
                self._framing[1],
                int(self._framing[2]),
                timeout=0,
                exclusive=True,
            )
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
        with contextlib.suppress(OSError, termios.error):
            self._mark_damage(opened.fileno())
        self._watch = PortWatch(self.port, opened.fileno())
        self._poll = select.poll()
        self._poll.register(opened.fileno(), select.POLLIN)
        with contextlib.suppress(OSError, termios.error):
            opened.reset_input_buffer()
        self._let_end()
        if self._watch.fileno() >= 0:
            self._poll.register(self._watch.fileno(), select.POLLIN)

    @staticmethod
    def _mark_damage(fd: int) -> None:
        """Let a byte with a wrong parity or stop bit, and a break, read as zero instead of as if nothing were."""
        flags = termios.tcgetattr(fd)
        flags[0] |= termios.INPCK
        flags[0] &= ~(termios.IGNPAR | termios.PARMRK | termios.IGNBRK | termios.BRKINT)
        termios.tcsetattr(fd, termios.TCSANOW, flags)

    def _let_end(self) -> None:
        end = time.monotonic() + _LONGEST_SECONDS
        while self._poll.poll(_LISTEN_SECONDS * 1000) and time.monotonic() < end:
            if not self.read(0):
                return

    @property
    def losses(self) -> int:
        return self._watch.losses if self._watch else 0

    @property
    def intruder(self) -> str:
        return self._watch.intruder if self._watch else ""

    def read(self, timeout_seconds: float) -> bytes:
        if self._serial is None or self._watch is None:
            raise self._gone("it is not open")
        try:
            ready = self._poll.poll(timeout_seconds * 1000)
            if not ready:
                return b""
            fd = self._serial.fileno()
            waiting = self._watch.before_read()
            state = dict(ready).get(fd, 0)
            if not state:
                # Somebody else has opened, read or closed the port.
                return b""
            data = b""
            try:
                data = os.read(fd, _READ_BYTES)
            finally:
                self._watch.after_read(waiting, len(data))
        except BlockingIOError:
            return b""
        except (OSError, TypeError) as error:
            raise self._gone(getattr(error, "strerror", None) or "closed") from None
        if not data:
            if state & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                raise self._gone("unplugged")
            # Readable without data: another program was quicker.
            self._watch.note_taken()
        return data

    def write(self, data: bytes) -> None:
        if self._serial is None:
            raise self._gone("it is not open")
        try:
            # pyserial looks at the clock after it has written, so that on a busy machine bytes that were taken at once
            # count as refused.
            fd, rest = self._serial.fileno(), data
            while rest:
                if not select.select([], [fd], [], _WRITE_SECONDS)[1]:
                    raise self._gone("it takes no bytes")
                rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            raise self._gone("it takes no bytes") from None
        except (OSError, TypeError) as error:  # SerialException is an OSError
            raise self._gone(getattr(error, "strerror", None) or "closed") from None

    def close(self) -> None:
        opened, self._serial = self._serial, None
        if self._watch is not None:
            self._watch.close()
        if opened is not None:
            with contextlib.suppress(OSError, termios.error):
                opened.close()

    def _gone(self, why: str) -> ReaderOffline:
        return ReaderOffline(f"The serial port {self.port} is gone ({why}); plug the reader in again.")
