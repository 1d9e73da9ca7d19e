"""Readers that print a line a tap, at the far end of a pseudo terminal.

The near end is a real tty that real pyserial opens; the faults are those that such readers show in the field.
"""

from __future__ import annotations

import os
import pty
import threading
import time
import tty
from collections.abc import Sequence

from gateway.cards.encodings import encode
from gateway.cards.uid import Uid


class LineReader:
    """One reader with a serial line.

    Args:
        encoding: how it prints a UID (see cards.encodings).
        prefix: bytes before the number, such as an STX.
        suffix: bytes after it.
    """

    def __init__(self, encoding: str = "hex-msb", prefix: bytes = b"", suffix: bytes = b"\r") -> None:
        self.encoding = encoding
        self.prefix = prefix
        self.suffix = suffix
        self._far = -1
        self._near = -1
        self.path = ""
        self.plug()

    def plug(self) -> None:
        """Make the device appear; a reader plugged in again gets another path."""
        self.unplug()
        self._far, self._near = pty.openpty()
        tty.setraw(self._near)
        self.path = os.ttyname(self._near)

    def unplug(self) -> None:
        """Pull the cable: the near end reads end of file or an error."""
        for end in (self._far, self._near):
            if end >= 0:
                os.close(end)
        self._far = self._near = -1

    def line(self, uid: bytes) -> bytes:
        """Give what this reader prints for a card."""
        return self.prefix + encode(Uid(uid), self.encoding).encode() + self.suffix

    def tap(self, uid: bytes) -> int:
        """Hold a card to the reader; gives CLOCK_MONOTONIC nanoseconds before the first byte."""
        return self.send(self.line(uid))

    def send(self, data: bytes) -> int:
        """Print raw bytes: banners, garbage, whatever the fault needs."""
        now_ns = time.monotonic_ns()
        os.write(self._far, data)
        return now_ns

    def send_split(self, pieces: Sequence[bytes], pause_seconds: float) -> None:
        """Print with pauses, as slow adapters do."""
        wait = threading.Event()
        for piece in pieces:
            self.send(piece)
            wait.wait(pause_seconds)

    def received(self) -> bytes:
        """Give what the driver has sent, without waiting."""
        os.set_blocking(self._far, False)
        try:
            return os.read(self._far, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.unplug()
