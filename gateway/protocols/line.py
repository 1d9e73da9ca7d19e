"""Readers that print one line of text a tap: bytes to lines, never a wrong line.

Law of this file: a line that holds anything but printable ASCII, or that grows too long, is dropped whole; half a
number must never pass for a number. A partial line is dropped when the wire falls silent (`idle`), so that a stray
byte cannot join the tap that follows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_ENDS = frozenset(b"\r\n")
_PRINTABLE = frozenset(range(0x20, 0x7F))

# Elatec V24 firmware prints `ELA GM4.02` at power-up; RF IDeas pcProx prints a prompt.
KNOWN_BANNERS = r"ELA [A-Z]{2}[0-9.]+|RF IDeas>"


@dataclass(frozen=True, slots=True)
class LineForm:
    """What a reader's line looks like.

    Attributes:
        prefix: text before the number; a line without it is not a tap.
        suffix: text after the number.
        pattern: regular expression for what stands between; its first group, when it has one, is the number.
        banner: regular expression for lines that announce a restart of the reader.
        ends_by_silence: True for readers that send no line end: silence ends a line.
        max_bytes: a longer line is garbage.
    """

    prefix: str = ""
    suffix: str = ""
    pattern: str = ""
    banner: str = KNOWN_BANNERS
    ends_by_silence: bool = False
    max_bytes: int = 64


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
    """Bytes that were no tap; `why` is one phrase without the bytes."""

    why: str
    length: int


LineEvent = Line | Banner | Dropped


class LineParser:
    """Incremental: the events do not depend on how the bytes were cut into pieces."""

    def __init__(self, form: LineForm) -> None:
        self._form = form
        self._pattern = re.compile(form.pattern) if form.pattern else None
        self._banner = re.compile(form.banner) if form.banner else None
        self._line = bytearray()
        self._length = 0
        self._dirty = ""

    @property
    def waiting(self) -> bool:
        """Tell whether part of a line has arrived."""
        return self._length > 0

    def feed(self, data: bytes) -> list[LineEvent]:
        events: list[LineEvent] = []
        for byte in data:
            if byte in _LINE_ENDS:
                events += self._end()
                continue
            self._length += 1
            if byte not in _PRINTABLE:
                self._dirty = self._dirty or "not text"
            elif len(self._line) >= self._form.max_bytes:
                self._dirty = self._dirty or "too long"
            else:
                self._line.append(byte)
        return events

    def idle(self) -> list[LineEvent]:
        """Say that the wire has been silent for longer than a pause inside a line."""
        if not self._length:
            return []
        if not self._form.ends_by_silence:
            self._dirty = self._dirty or "no line end"
        return self._end()

    def reset(self) -> None:
        """Forget a partial line."""
        self._line.clear()
        self._length = 0
        self._dirty = ""

    def _end(self) -> list[LineEvent]:
        if not self._length:
            return []
        text, dirty, length = self._line.decode("ascii"), self._dirty, self._length
        self.reset()
        if dirty:
            return [Dropped(dirty, length)]
        text = text.strip()
        if not text:
            return []
        if self._banner and self._banner.fullmatch(text):
            return [Banner()]
        return [self._number(text, length)]

    def _number(self, text: str, length: int) -> LineEvent:
        form = self._form
        if not text.startswith(form.prefix) or not text.endswith(form.suffix):
            return Dropped("not this reader's prefix and suffix", length)
        inner = text[len(form.prefix) : len(text) - len(form.suffix)]
        if self._pattern is None:
            return Line(inner)
        found = self._pattern.fullmatch(inner)
        if not found:
            return Dropped("not this reader's pattern", length)
        return Line(found[1] if self._pattern.groups else inner)
