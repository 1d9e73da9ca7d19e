"""Tells when bytes of a serial port may have gone elsewhere: to another program, or over the edge of a buffer.

Locks keep out programs that ask for them, and TIOCEXCL those that come later without being root. What is left is seen
by inotify: a watch on the device's node tells every opening, reading and closing, our own included. Own reads are those
that this object is told of. inotify(7), ioctl_tty(2), linux/serial.h.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import struct
import termios
import time
from pathlib import Path

_IN_ACCESS, _IN_CLOSE, _IN_OPEN, _IN_OVERFLOW = 0x1, 0x18, 0x20, 0x4000
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT = struct.Struct("iIII")
_READ_BYTES = 4096
# How long after its last read a program that was there before counts as still reading.
_READER_SECONDS = 10.0

_TIOCGICOUNT = 0x545D
# cts, dsr, rng, dcd, rx, tx, frame, overrun, parity, brk, buf_overrun, and nine that are reserved
_COUNTERS = struct.Struct("=11i36x")
_OVERRUN, _BUFFER_OVERRUN = 7, 10


class PortWatch:
    """Watches one open port.

    Attributes:
        losses: grows each time bytes may have been lost.
    """

    def __init__(self, port: str, fd: int) -> None:
        self.losses = 0
        self._port, self._tty = port, fd
        self._others = 0
        self._read_until = 0.0
        self._name = ""
        self._overruns = self._count_overruns()
        self._fd = self._start()

    def _start(self) -> int:
        library = ctypes.CDLL(None, use_errno=True)
        try:
            fd: int = library.inotify_init1(_IN_FLAGS)
        except AttributeError:
            return -1
        if fd >= 0 and library.inotify_add_watch(fd, os.fsencode(self._port), _IN_ACCESS | _IN_CLOSE | _IN_OPEN) < 0:
            os.close(fd)
            return -1
        return fd

    def fileno(self) -> int:
        """Return what becomes readable when somebody touches the port; -1 where the kernel cannot tell."""
        return self._fd

    @property
    def intruder(self) -> str:
        """Return a sentence while another program reads the port or has it open, else nothing."""
        if not self._others and time.monotonic() > self._read_until:
            return ""
        who = f" ({self._name})" if self._name else ""
        return f"Another program{who} has {self._port} open and takes bytes of numbers; end it. Taps are refused."

    def before_read(self) -> int:
        """Note what others did so far; returns how many bytes wait."""
        waiting = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._tty, termios.FIONREAD, waiting)
        self._take(own_reads=0)
        return waiting[0]

    def after_read(self, waited: int, got: int) -> None:
        """Compare with what had waited, and note what others did meanwhile.

        Args:
            waited: what before_read returned.
            got: how many bytes the own read gave.
        """
        self._take(own_reads=1 if got else 0)
        if got < min(waited, _READ_BYTES):
            self._note_other_reader()
        overruns = self._count_overruns()
        if overruns != self._overruns:
            self._overruns = overruns
            self.losses += 1

    def note_taken(self) -> None:
        """Note that what had been there to read was gone."""
        self._note_other_reader()

    def _take(self, own_reads: int) -> None:
        if self._fd < 0:
            return
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError:
            return
        for at in range(0, len(data) - _EVENT.size + 1, _EVENT.size):
            mask = _EVENT.unpack_from(data, at)[1]
            if mask & _IN_ACCESS and own_reads:
                own_reads -= 1
            elif mask & (_IN_ACCESS | _IN_OVERFLOW):
                self._note_other_reader()
            elif mask & _IN_OPEN:
                self._others += 1
                self._name = self._name or _holder_of(self._port)
            elif mask & _IN_CLOSE:
                self._others = max(0, self._others - 1)
                # Bytes that came while it was there may have been taken by it unseen.
                self.losses += 1
                self._read_until = 0.0
                self._name = ""

    def _note_other_reader(self) -> None:
        self.losses += 1
        self._read_until = time.monotonic() + _READER_SECONDS
        self._name = self._name or _holder_of(self._port)

    def _count_overruns(self) -> tuple[int, int]:
        counters = bytearray(_COUNTERS.size)
        try:
            fcntl.ioctl(self._tty, _TIOCGICOUNT, counters)
        except OSError:
            # Pseudo terminals and some adapters count nothing.
            return (0, 0)
        values = _COUNTERS.unpack(counters)
        return values[_OVERRUN], values[_BUFFER_OVERRUN]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _holder_of(port: str) -> str:
    """Return the name of another process that has the port open, as far as this user may look; else nothing."""
    real = os.path.realpath(port)
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(str(entry.readlink()) == real for entry in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text(encoding='utf-8').strip()}, process {process.name}"
        except OSError:
            continue
    return ""
