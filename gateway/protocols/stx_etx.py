"""125 kHz readers that frame ten hex digits between STX and ETX: ID-2/12/20, RDM6300 and their copies.

    02 | version, 2 hex digits | tag, 8 hex digits | checksum, 2 hex digits | [0D 0A] | 03

The checksum is the exclusive or of the five bytes. Upper and lower case both occur.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.cards.iso14443 import bcc
from gateway.protocols.shapes import Shape, shape_of

_STX, _ETX = 0x02, 0x03
_LINE_ENDS = frozenset(b"\r\n")
_HEX = frozenset(b"0123456789ABCDEFabcdef")
_DIGITS = 12
_SAMPLE_BYTES = 64
OUTSIDE = "bytes outside of a frame"


@dataclass(frozen=True, slots=True)
class Tag:
    """One EM4100 tag: its version byte and the four bytes that are printed on it as ten decimal digits."""

    version: int
    number: bytes

    def __repr__(self) -> str:
        return f"Tag({len(self.number)} bytes, tail {self.number[-2:].hex().upper()})"


@dataclass(frozen=True, slots=True)
class Dropped:
    """Bytes that were no tag; `why` is one phrase without the bytes."""

    why: str
    length: int
    shape: Shape = field(default=Shape(), compare=False)


class StxEtxParser:
    """Incremental; an STX always starts a new frame, so a broken frame affects only itself."""

    def __init__(self) -> None:
        self._digits = bytearray()
        self._inside = False
        self._length = 0
        self._spoilt = ""
        self._sample = bytearray()

    @property
    def waiting(self) -> bool:
        return self._length > 0

    def feed(self, data: bytes) -> list[Tag | Dropped]:
        events: list[Tag | Dropped] = []
        for byte in data:
            if byte == _STX:
                events += self._drop("frame cut short" if self._inside else OUTSIDE)
                self._inside = True
                self._length = 1
                self._sample.append(byte)
                continue
            self._length += 1
            if len(self._sample) < _SAMPLE_BYTES:
                self._sample.append(byte)
            if not self._inside:
                continue
            if byte == _ETX:
                events.append(self._end())
            elif byte in _HEX and len(self._digits) < _DIGITS:
                self._digits.append(byte)
            elif byte not in _LINE_ENDS:
                # No hex digit, or one too many: wait for the next STX.
                self._inside = False
        return events

    def idle(self) -> list[Tag | Dropped]:
        return self._drop("frame cut short" if self._inside else OUTSIDE)

    def spoil(self, why: str) -> None:
        """Note that bytes of the current frame were lost; the next STX starts a new frame."""
        self._spoilt = why
        self._inside = False
        self._length = max(self._length, 1)

    def undate(self) -> None:
        """Frames have an end of their own; silences do not matter."""

    def reset(self) -> None:
        self._spoilt = ""
        self._sample.clear()
        self._digits.clear()
        self._inside = False
        self._length = 0

    def _drop(self, why: str) -> list[Tag | Dropped]:
        length, why, shape = self._length, self._spoilt or why, shape_of(bytes(self._sample))
        self.reset()
        return [Dropped(why, length, shape)] if length else []

    def _end(self) -> Tag | Dropped:
        digits, length, shape = self._digits.decode("ascii"), self._length, shape_of(bytes(self._sample))
        self.reset()
        if len(digits) != _DIGITS:
            return Dropped("wrong length", length, shape)
        raw = bytes.fromhex(digits)
        if bcc(raw[:5]) != raw[5]:
            return Dropped("wrong checksum", length, shape)
        return Tag(raw[0], raw[1:5])


def encode(version: int, number: bytes) -> bytes:
    """Return the frame an ID-12 sends for a tag."""
    body = bytes([version]) + number
    return b"\x02" + (body + bytes([bcc(body)])).hex().upper().encode() + b"\r\n\x03"
