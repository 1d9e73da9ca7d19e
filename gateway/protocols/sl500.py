"""SL500 and its relatives (YHY, Sycreader): master and slave on a serial line.

    AA BB | length, 2 | node, 2 | command, 2 | [status in replies] | data | check

Numbers are little-endian; the length counts from node to check; the check is the exclusive or of node to data. After
the header every AA is followed by a 00 that counts nowhere. Commands: StrongLink, SL500 communication protocol V35.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.cards.iso14443 import bcc

_HEADER = b"\xaa\xbb"
_MAX_LENGTH = 512

REQUEST = 0x0201
ANTICOLLISION = 0x0202
SELECT = 0x0203
HALT = 0x0204
# rf_ul_select: anticollision and selection over both cascade levels, after REQUEST; answers the 7 bytes and no SAK.
SELECT_SEVEN = 0x0212
GET_MODEL = 0x0104
BEEP = 0x0106
LED = 0x0107
REQUEST_ALL = b"\x52"
# ISO/IEC 14443-3: these bits of the first ATQA byte give the UID's size, here two cascade levels.
_SIZE_BITS, _TWO_LEVELS = 0xC0, 0x40
LED_OFF, LED_RED, LED_GREEN = 0, 1, 2


def frame(command: int, data: bytes = b"", node: int = 0) -> bytes:
    """Build a request; a reply has its status as the first byte of `data`."""
    body = node.to_bytes(2, "little") + command.to_bytes(2, "little") + data
    body += bytes([bcc(body)])
    content = (len(body)).to_bytes(2, "little") + body
    return _HEADER + content.replace(b"\xaa", b"\xaa\x00")


@dataclass(frozen=True, slots=True)
class Packet:
    """A request or a reply.

    Attributes:
        content: all bytes after the command; in a reply the status first.
    """

    command: int
    content: bytes

    @property
    def status(self) -> int:
        """Return a reply's status: 0 is success, -1 means none."""
        return self.content[0] if self.content else -1

    @property
    def data(self) -> bytes:
        """Return what stands after a reply's status."""
        return self.content[1:]

    def __repr__(self) -> str:
        return f"Packet(command {self.command:04X}, {len(self.content)} bytes)"


def has_seven_bytes(atqa: bytes) -> bool:
    """Return from the answer to REQUEST whether the card's UID has seven bytes."""
    return len(atqa) == 2 and atqa[0] & _SIZE_BITS == _TWO_LEVELS


class FrameParser:
    """Incremental; an AA that is not followed by 00 starts a new frame in any state."""

    def __init__(self) -> None:
        self._body: bytearray | None = None
        self._after_aa = False
        self.junk = 0

    @property
    def waiting(self) -> bool:
        return self._body is not None or self._after_aa

    def feed(self, data: bytes) -> list[Packet]:
        packets: list[Packet] = []
        for byte in data:
            if self._after_aa:
                self._after_aa = False
                if byte == 0xBB:
                    self.junk += len(self._body or b"")
                    self._body = bytearray()
                    continue
                if byte != 0x00 or self._body is None:
                    self.idle()
                    self._after_aa = byte == 0xAA
                    continue
                packets += self._take(0xAA)
            elif byte == 0xAA:
                self._after_aa = True
            else:
                packets += self._take(byte)
        return packets

    def idle(self) -> None:
        """Forget a partial frame."""
        self.junk += len(self._body or b"") + self._after_aa
        self._body = None
        self._after_aa = False

    def _take(self, byte: int) -> list[Packet]:
        if self._body is None:
            self.junk += 1
            return []
        self._body.append(byte)
        if len(self._body) < 2:
            return []
        length = int.from_bytes(self._body[:2], "little")
        if not 5 <= length <= _MAX_LENGTH:
            self.idle()
            return []
        if len(self._body) < 2 + length:
            return []
        body = bytes(self._body[2:])
        self._body = None
        if bcc(body[:-1]) != body[-1]:
            self.junk += length
            return []
        return [Packet(int.from_bytes(body[2:4], "little"), body[4:-1])]
