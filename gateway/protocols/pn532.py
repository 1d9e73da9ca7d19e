"""NXP PN532 over its high speed UART (user manual UM0701, section 6.2): frames and the few commands a reader needs.

00 00 FF | LEN | LCS | TFI PD0 .. PDn | DCS | 00        LEN + LCS = 0, TFI + .. + DCS = 0 modulo 256
00 00 FF FF FF | LENM LENL | LCS | ...                  extended
00 00 FF 00 FF 00                                       ACK
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import BadMessage

ACK = bytes.fromhex("0000FF00FF00")
# Long enough a preamble for a chip that sleeps; it wakes at the first rising edge.
WAKE_UP = b"\x55\x55" + bytes(14)

_START = b"\x00\xff"
_TO_CHIP, _TO_HOST, _ERROR = 0xD4, 0xD5, 0x7F
_MAX_DATA = 265

SAM_CONFIGURATION = bytes([0x14, 0x01, 0x17, 0x00])
GET_FIRMWARE_VERSION = bytes([0x02])
# Without this a look for a card lasts until one comes: FF tries for ATR and PSL, here 1 for passive activation.
LIMIT_RETRIES = bytes([0x32, 0x05, 0xFF, 0x01, 0x01])
FIELD_OFF = bytes([0x32, 0x01, 0x00])
LIST_ONE_ISO14443A = bytes([0x4A, 0x01, 0x00])


def frame(data: bytes, direction: int = _TO_CHIP) -> bytes:
    """Wrap one command, or with `direction` D5 one answer."""
    body = bytes([direction]) + data
    total = len(body)
    if total > 0xFF:
        high, low = divmod(total, 256)
        head = b"\xff\xff" + bytes([high, low, -(high + low) & 0xFF])
    else:
        head = bytes([total, -total & 0xFF])
    return b"\x00" + _START + head + body + bytes([-sum(body) & 0xFF, 0x00])


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The chip has taken the command."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its code is the command's plus one."""

    code: int
    data: bytes

    def __repr__(self) -> str:
        return f"Reply(code {self.code:02X}, {len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class Refused:
    """The chip's error frame, or a frame with a wrong checksum."""

    why: str


class FrameParser:
    """Incremental: drops one byte and looks again wherever a header does not add up.

    Args:
        direction: D5 to read what the chip sends, D4 for an emulator that reads the host.
    """

    def __init__(self, direction: int = _TO_HOST) -> None:
        self._direction = direction
        self._buffer = bytearray()
        self.junk = 0

    def feed(self, data: bytes) -> list[Acknowledged | Reply | Refused]:
        self._buffer += data
        events: list[Acknowledged | Reply | Refused] = []
        while (event := self._next()) is not None:
            if event is not _SKIP:
                events.append(event)
        return events

    def idle(self) -> None:
        """Forget a partial frame: a header with a wrong length must not swallow the frame after it."""
        self.junk += len(self._buffer)
        self._buffer.clear()

    @property
    def waiting(self) -> bool:
        return bool(self._buffer)

    def _next(self) -> Acknowledged | Reply | Refused | None:
        buffer = self._buffer
        start = buffer.find(_START)
        if start < 0:
            # The last byte may be the first half of a start code.
            keep = 1 if buffer[-1:] == b"\x00" else 0
            self.junk += len(buffer) - keep
            del buffer[: len(buffer) - keep]
            return None
        del buffer[:start]
        if len(buffer) < 4:
            return None
        if bytes(buffer[2:4]) in {b"\x00\xff", b"\xff\x00"}:
            acknowledged = buffer[2] == 0
            del buffer[:4]
            return Acknowledged() if acknowledged else Refused("not acknowledged")
        head, length = _header(buffer)
        if length < 0:
            self.junk += 1
            del buffer[:1]
            return _SKIP
        if not length or len(buffer) < head + length + 1:
            return None
        body, check = bytes(buffer[head : head + length]), buffer[head + length]
        if sum(body) + check & 0xFF:
            self.junk += 1
            del buffer[:1]
            return _SKIP
        del buffer[: head + length + 1]
        return self._judge(body)

    def _judge(self, body: bytes) -> Reply | Refused:
        if body[0] == _ERROR:
            return Refused("syntax error")
        if body[0] != self._direction or len(body) < 2:
            return Refused("frame of the wrong direction")
        return Reply(body[1], body[2:])


def _header(buffer: bytearray) -> tuple[int, int]:
    """Return where the body starts and its length; length 0 asks for more bytes, -1 says that this is no header."""
    length, check = buffer[2], buffer[3]
    if (length, check) != (0xFF, 0xFF):
        return (4, length) if length and not length + check & 0xFF else (4, -1)
    if len(buffer) < 7:
        return 7, 0
    length = buffer[4] << 8 | buffer[5]
    good = 0 < length <= _MAX_DATA and not sum(buffer[4:7]) & 0xFF
    return 7, length if good else -1


_SKIP = Refused("skipped")


@dataclass(frozen=True, slots=True)
class Target:
    """One card in the field.

    Attributes:
        atqa: as sent on air, low byte first.
    """

    atqa: bytes
    sak: int
    uid: bytes

    def __repr__(self) -> str:
        return f"Target(SAK {self.sak:02X}, {len(self.uid)} bytes)"


def parse_target(data: bytes) -> Target | None:
    """Read the answer to LIST_ONE_ISO14443A; None when there is no card.

    Raises:
        BadMessage: the answer is cut short.
    """
    # count | number | ATQA high low | SAK | UID length | UID | ATS
    if not data:
        raise BadMessage("The reader's list of cards is empty.")
    if data[0] == 0:
        return None
    if len(data) < 6 or len(data) < 6 + data[5] or data[5] not in {4, 7, 10}:
        raise BadMessage("The reader's list of cards is cut short.")
    return Target(data[3:1:-1], data[4], data[6 : 6 + data[5]])
