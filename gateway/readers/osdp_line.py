"""Shares one pair of wires among several OSDP readers: whose turn it is, and whose answer has come.

OSDP is half duplex: a panel asks one address and waits for its answer. Each address has a control panel of its own, so
that each has its own key and its own life, and this file lets one of them at a time work. Law of this file: whoever has
asked keeps the line until its answer is complete or its time is over; then the next one has its turn. A reader that
does not answer keeps the line for a short while only, and only now and then.

    FF 53 address length-low length-high ...     an answer has the top bit of its address set
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from gateway.errors import ReaderOffline
from gateway.transports.serial import SerialTransport

_SOM, _REPLY = 0x53, 0x80
_HEAD_BYTES = 4
_LONGEST = 1440
_BITS_PER_BYTE = 10
# How long the line is kept for an answer to begin: the standard's limit for readers that do answer, and what all but
# few readers need for one that has not answered the question before.
_PATIENCE_NS, _SHORT_NS = 200_000_000, 30_000_000
_GAP_NS = 60_000_000


class Member(Protocol):
    """One address on the line.

    Attributes:
        is_called: it is brought up while others work, and pumped without a turn of its own.
    """

    address: int
    is_called: bool

    def refresh(self) -> None:
        """Let its control panel work, which may write one question."""
        ...

    def take(self, frame: bytes) -> None:
        """Take one whole answer of its address."""
        ...


class OsdpLine:
    """The wires behind one port.

    Args:
        baud: tells how long a question is on its way.

    Attributes:
        openings: how often the port was opened.
    """

    def __init__(self, transport: SerialTransport, baud: int, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.port = transport.port
        self._transport = transport
        self._byte_ns = _BITS_PER_BYTE * 1_000_000_000 // baud
        self._now_ns = now_ns
        self._open: list[Member] = []
        self._called: list[Member] = []
        self._is_open = False
        self.openings = 0
        self._next = 0
        self._holder: Member | None = None
        self._until_ns = 0
        self._answered = False
        self._silent: set[int] = set()
        self._arrived = bytearray()
        self._last_byte_ns = 0

    def has_others(self, member: Member) -> bool:
        """Return whether other readers work on this line, which must not wait for this one."""
        return any(other is not member for other in self._open)

    def calls(self, member: Member) -> bool:
        """Return whether a member is being called while others work."""
        return self._is_open and member in self._called

    def enter(self, member: Member) -> None:
        """Serve a member from now on; the first one opens the port.

        Raises:
            ReaderOffline: the port cannot be opened.
        """
        if not self._is_open:
            self._transport.open()
            self._is_open = True
            self.openings += 1
            self.port = self._transport.port
            self._arrived.clear()
            self._holder = None
            self._last_byte_ns = self._now_ns()
        self._forget(member)
        self._open.append(member)

    def leave(self, member: Member) -> None:
        """Stop serving a member; the last one closes the port. While others remain, it is still called."""
        was_here = member in self._open or member in self._called
        self._forget(member)
        if not self._open:
            self._called.clear()
            self._close()
        elif was_here:
            self._called.append(member)

    def _forget(self, member: Member) -> None:
        for members in (self._open, self._called):
            if member in members:
                members.remove(member)
        if self._holder is member:
            self._holder = None

    def _close(self) -> None:
        self._is_open = False
        self._transport.close()

    def write(self, member: Member, question: bytes) -> None:
        """Send a member's question; it keeps the line until it is answered."""
        self._holder, self._answered = member, False
        patience = _SHORT_NS if member.address in self._silent else _PATIENCE_NS
        self._until_ns = self._now_ns() + len(question) * self._byte_ns + patience
        self._transport.write(question)

    def pump(self) -> None:
        """Take what has arrived, and let the member that has the line, or the next one, work for a moment.

        Raises:
            ReaderOffline: the port is gone.
        """
        if not self._is_open:
            raise ReaderOffline(f"{self.port} is not open.")
        try:
            self._hear()
            self._work()
        except ReaderOffline:
            self._close()
            raise

    def _hear(self) -> None:
        now_ns = self._now_ns()
        data = self._transport.read(0)
        if data:
            self._arrived += data
            self._last_byte_ns = now_ns
        elif self._arrived and now_ns - self._last_byte_ns > _GAP_NS:
            self._arrived.clear()
        for frame in self._frames():
            address = frame[1] & ~_REPLY
            for member in (*self._open, *self._called):
                if member.address == address:
                    self._silent.discard(address)
                    member.take(frame)
                    self._answered = self._answered or member is self._holder

    def _frames(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            start = self._arrived.find(_SOM)
            del self._arrived[: start if start >= 0 else len(self._arrived)]
            if len(self._arrived) < _HEAD_BYTES:
                return found
            length = self._arrived[2] | self._arrived[3] << 8
            if not self._arrived[1] & _REPLY or not _HEAD_BYTES < length <= _LONGEST:
                del self._arrived[0]
            elif len(self._arrived) >= length:
                found.append(bytes(self._arrived[:length]))
                del self._arrived[:length]
            else:
                return found

    def _work(self) -> None:
        if self._holder is not None:
            self._serve(self._holder)
            return
        members = [*self._open, *self._called]
        for turn in range(len(members)):
            member = members[(self._next + turn) % len(members)]
            member.refresh()
            if self._is_held():
                self._next = (self._next + turn + 1) % len(members)
                return

    def _is_held(self) -> bool:
        return self._holder is not None

    def _serve(self, holder: Member) -> None:
        if self._answered:
            # One turn to take the answer; a question that it leads to keeps the line.
            holder.refresh()
            if self._answered:
                self._holder = None
            return
        now_ns = self._now_ns()
        begun = bool(self._arrived) and now_ns - self._last_byte_ns < _GAP_NS
        if now_ns < self._until_ns or begun:
            holder.refresh()
            return
        self._silent.add(holder.address)
        self._holder = None


_LINES: weakref.WeakKeyDictionary[Any, dict[str, OsdpLine]] = weakref.WeakKeyDictionary()
"""The lines of each set of wires: readers of one port are made one by one, and share what they are on."""


def line_of(wires: Any, port: str, baud: int) -> OsdpLine:
    """Return the line behind a port of these wires, the same for every reader on it."""
    lines = _LINES.setdefault(wires, {})
    if port not in lines:
        lines[port] = OsdpLine(wires.serial(port, baud), baud, wires.now_ns)
    return lines[port]
