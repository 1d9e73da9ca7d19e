"""Readers that print one line of text a tap: bytes to lines, never a wrong line.

Law of this file: a line that holds anything but printable ASCII, or that grows too long, is dropped whole; half a
number must never pass for a number. A partial line is dropped when the wire falls silent (`idle`), so that a stray
byte cannot join the tap that follows it, and whoever knows that bytes were lost spoils the line under way (`spoil`).

    [start] text [CR LF] [end]      CR or LF ends a line that has no end of its own

A form without start and end also takes text between STX and ETX, and a UTF-8 mark in front, as they come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gateway.protocols.shapes import Shape, shape_of, text_kind

_LINE_ENDS = frozenset(b"\r\n")
_PRINTABLE = frozenset(range(0x20, 0x7F))
_STX, _ETX = 0x02, 0x03
_UTF8_MARK = b"\xef\xbb\xbf"

# Elatec V24 firmware prints `ELA GM4.02` at power-up; RF IDeas pcProx prints a prompt.
KNOWN_BANNERS = r"ELA [A-Z]{2}[0-9.]+|RF IDeas>"

CONTROL_NAMES = {
    "NUL": 0x00, "SOH": 0x01, "STX": 0x02, "ETX": 0x03, "EOT": 0x04, "ENQ": 0x05, "ACK": 0x06, "BEL": 0x07,
    "BS": 0x08, "TAB": 0x09, "LF": 0x0A, "VT": 0x0B, "FF": 0x0C, "CR": 0x0D, "SO": 0x0E, "SI": 0x0F, "DLE": 0x10,
    "DC1": 0x11, "DC2": 0x12, "DC3": 0x13, "DC4": 0x14, "NAK": 0x15, "SYN": 0x16, "ETB": 0x17, "CAN": 0x18,
    "EM": 0x19, "SUB": 0x1A, "ESC": 0x1B, "FS": 0x1C, "GS": 0x1D, "RS": 0x1E, "US": 0x1F, "SPACE": 0x20,
}  # fmt: skip
_LONGEST_FRAME = 8


@dataclass(frozen=True, slots=True)
class LineForm:
    """The format of a reader's lines.

    Attributes:
        prefix: text before the number; a line without it is not a tap.
        suffix: text after the number.
        pattern: regular expression for what stands between; its first group, when it has one, is the number.
        banner: regular expression for lines that announce a restart of the reader.
        ends_by_silence: True for readers that send no line end: silence ends a line.
        max_bytes: a longer line is garbage.
        start: bytes with which every line begins; a line without them has lost its beginning.
        end: bytes that end a line, in place of CR or LF.
    """

    prefix: str = ""
    suffix: str = ""
    pattern: str = ""
    banner: str = KNOWN_BANNERS
    ends_by_silence: bool = False
    max_bytes: int = 64
    start: bytes = b""
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Line:
    """One number as the reader printed it."""

    text: str

    def __repr__(self) -> str:
        return f"Line({len(self.text)} characters)"


@dataclass(frozen=True, slots=True)
class Banner:
    """The reader has restarted."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Bytes that were no tap; `why` is one phrase without the bytes, `shape` says what kind they were."""

    why: str
    length: int
    shape: Shape = field(default=Shape(), compare=False)


LineEvent = Line | Banner | Dropped


def frame_bytes(text: str) -> bytes:
    """Read the bytes of a start or end as settings name them: `STX`, `CR LF ETX`, `0x02`, or text itself.

    Raises:
        ValueError: too long, or not ASCII.
    """
    found = bytearray()
    for word in text.split(" ") if text.strip(" ") else [text]:
        if word.upper() in CONTROL_NAMES:
            found.append(CONTROL_NAMES[word.upper()])
        elif re.fullmatch(r"0[xX][0-9A-Fa-f]{2}", word):
            found.append(int(word, 16))
        else:
            found += word.encode("ascii")
    if len(found) > _LONGEST_FRAME:
        raise ValueError(f"has more than {_LONGEST_FRAME} bytes")
    return bytes(found)


class LineParser:
    """Incremental: the events do not depend on how the bytes were cut into pieces."""

    def __init__(self, form: LineForm) -> None:
        self._form = form
        self._pattern = re.compile(form.pattern) if form.pattern else None
        self._banner = re.compile(form.banner) if form.banner else None
        self._plain = not form.start and not form.end
        self._line = bytearray()
        self._tail = b""
        self._length = 0
        self._dirty = ""
        self._is_framed = False
        self._is_undated = False
        self._longest = 0

    @property
    def waiting(self) -> bool:
        """Return whether part of a line has arrived."""
        return self._length > 0

    def feed(self, data: bytes) -> list[LineEvent]:
        events: list[LineEvent] = []
        for byte in data:
            if byte in _LINE_ENDS and not self._form.end:
                events += self._ended()
            elif self._plain and byte == _STX:
                events += self._cut_short(0)
                self._is_framed = True
            elif self._plain and byte == _ETX and (self._is_framed or not self._length):
                events += self._ended()
            else:
                self._take(byte)
                events += self._framed()
        return events

    def _ended(self) -> list[LineEvent]:
        """End a line by its own end; the length of such lines shows what a silence may have cut."""
        events = self._end()
        self._longest = max([self._longest, *(len(event.text) for event in events if isinstance(event, Line))])
        return events

    def _take(self, byte: int) -> None:
        self._length += 1
        self._tail = (self._tail + bytes([byte]))[-_LONGEST_FRAME:]
        if len(self._line) >= self._form.max_bytes:
            self._dirty = self._dirty or "too long"
        else:
            self._line.append(byte)

    def _framed(self) -> list[LineEvent]:
        """Look whether the byte that has come completes the start or the end of a frame."""
        start, end = self._form.start, self._form.end
        if end and self._tail.endswith(end):
            if not self._tail_is_lost():
                del self._line[-len(end) :]
            return self._end()
        if start and start[0] not in _PRINTABLE and self._length > len(start) and self._tail.endswith(start):
            return self._cut_short(len(start))
        return []

    def _cut_short(self, kept: int) -> list[LineEvent]:
        """Drop what came before a start, and begin again there."""
        line, length, dirty = bytes(self._line), self._length - kept, self._dirty
        before = line if self._tail_is_lost() else line[: len(line) - kept]
        self.reset()
        self._line += self._form.start[:kept]
        self._length = kept
        if not before.strip(b"\r\n") and not dirty:
            return []
        return [Dropped(dirty or "frame cut short", length, shape_of(before))]

    def _tail_is_lost(self) -> bool:
        return self._length > len(self._line)

    def idle(self) -> list[LineEvent]:
        """Note that the wire has been silent for longer than a pause inside a line."""
        undated, self._is_undated = self._is_undated, False
        if not self._length or not (self._line.strip(b"\r\n") or self._dirty):
            self.reset()
            return []
        if not self._form.ends_by_silence:
            self._dirty = self._dirty or "no line end"
        elif undated:
            self._dirty = self._dirty or "the gateway was busy"
        ended = self._end()
        # A reader that ends its lines has lost the end of this one, and of the number when that is shorter as well.
        return [
            Dropped("no line end", len(event.text), Shape(text_kind(event.text)))
            if isinstance(event, Line) and len(event.text) < self._longest
            else event
            for event in ended
        ]

    def spoil(self, why: str) -> None:
        """Note that bytes of the current line were lost: it is dropped up to its end."""
        self._dirty = self._dirty or why
        self._length = max(self._length, 1)

    def undate(self) -> None:
        """Note that silences before the next bytes could not be observed: only a line end can end their line."""
        self._is_undated = True

    def reset(self) -> None:
        """Forget a partial line."""
        self._line.clear()
        self._tail = b""
        self._length = 0
        self._dirty = ""
        self._is_framed = False

    def _end(self) -> list[LineEvent]:
        if not self._length:
            self.reset()
            return []
        raw, dirty, length = bytes(self._line), self._dirty, self._length
        self.reset()
        self._is_undated = False
        inner = raw.removeprefix(_UTF8_MARK).strip(b"\r\n")
        if not dirty and any(byte not in _PRINTABLE for byte in inner.removeprefix(self._form.start)):
            dirty = "not text"
        if dirty:
            return [Dropped(dirty, length, shape_of(raw))]
        if not inner.strip():
            return []
        if not inner.startswith(self._form.start):
            return [Dropped("without its start", length, shape_of(raw))]
        text = inner.removeprefix(self._form.start).decode("ascii").strip()
        if self._banner and self._banner.fullmatch(text):
            return [Banner()]
        return [self._number(text, raw, length)]

    def _number(self, text: str, raw: bytes, length: int) -> LineEvent:
        form = self._form
        if not text.startswith(form.prefix) or not text.endswith(form.suffix):
            return Dropped("not this reader's prefix and suffix", length, shape_of(raw))
        inner = text[len(form.prefix) : len(text) - len(form.suffix)]
        if self._pattern is None:
            return Line(inner)
        found = self._pattern.fullmatch(inner)
        if not found:
            return Dropped("not this reader's pattern", length, shape_of(raw))
        return Line((found[1] or "") if self._pattern.groups else inner)
