"""Readers that print a line a tap, at the far end of a pseudo terminal.

The near end is a real tty that real pyserial opens; the faults are those that such readers show in the field.
"""

from __future__ import annotations

import os
import pty
import select
import threading
import time
import tty
from collections.abc import Sequence

from gateway.cards.encodings import encode
from gateway.cards.uid import Uid


class PtyEnd:
    """The far end of a pseudo terminal that can be pulled out."""

    def __init__(self) -> None:
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
        ends, self._far, self._near = (self._far, self._near), -1, -1
        for end in ends:
            if end >= 0:
                os.close(end)

    def send(self, data: bytes) -> int:
        """Print raw bytes: banners, garbage, whatever the fault needs; returns CLOCK_MONOTONIC ns before it."""
        now_ns = time.monotonic_ns()
        os.write(self._far, data)
        return now_ns

    def send_split(self, pieces: Sequence[bytes], pause_seconds: float) -> None:
        """Print with pauses, as slow adapters do."""
        wait = threading.Event()
        for piece in pieces:
            self.send(piece)
            wait.wait(pause_seconds)

    def received(self, timeout_seconds: float = 0.0) -> bytes:
        """Return what the driver has sent."""
        far = self._far
        if far < 0 or not select.select([far], [], [], timeout_seconds)[0]:
            return b""
        return os.read(far, 4096)

    def close(self) -> None:
        self.unplug()


class LineReader(PtyEnd):
    """One reader with a serial line.

    Args:
        encoding: how it prints a UID (see cards.encodings).
        prefix: bytes before the number, such as an STX.
        suffix: bytes after it.
    """

    def __init__(self, encoding: str = "hex-msb", prefix: bytes = b"", suffix: bytes = b"\r") -> None:
        super().__init__()
        self.encoding = encoding
        self.prefix = prefix
        self.suffix = suffix

    def line(self, uid: bytes) -> bytes:
        """Return what this reader prints for a card."""
        return self.prefix + encode(Uid(uid), self.encoding).encode() + self.suffix

    def tap(self, uid: bytes) -> int:
        """Hold a card to the reader; returns CLOCK_MONOTONIC nanoseconds before the first byte."""
        return self.send(self.line(uid))
