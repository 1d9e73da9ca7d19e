"""Masks for readers that send text: lines, key strokes, 125 kHz frames and the replies of a TWN4.

What is a number to the driver becomes an invented number in the same digits' places, with its check digits. In all
other text every digit that could be part of a number is wiped.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Sequence
from typing import Any

from gateway.cards.encodings import CT_TRUNCATED, LOSSY_PROJECTIONS, NUMBER, decode, encode
from gateway.cards.identity import UID_PROJECTION
from gateway.cards.uid import Uid
from gateway.errors import BadCardNumber, BadMessage
from gateway.protocols import stx_etx, twn4
from gateway.protocols.line import Banner, Line, LineForm, LineParser
from gateway.protocols.wedge import EV_KEY, EV_SYN, LOST, SPOILT, SYN_DROPPED, keys_of
from gateway.readers.base import CardRead, CardRefused
from gateway.readers.judge import judge_text
from gateway.readers.masking.numbers import CannotMask, Fakes, invented, telling_parts
from gateway.readers.masking.windows import Window, put_back, request_windows, talking_windows
from gateway.transports.trace import Record

_HEX = re.compile(rb"[0-9A-Fa-f]")
_NO_TEXT = re.compile(rb"[^\t-\r\x20-\x7e\x02\x03]")
_LINE_ENDS = re.compile(rb"([\r\n]+)")
_NO_KEY = 0x2FF  # the last code that the kernel has; no key has it
_TRIES = 2000
_DECIMAL = ("dec-", "8h10d", "6h8d", "2h3d", "w26", "w34", "ct-truncated", "number")


class LineMask:
    """Masks the lines of one reader.

    Attributes:
        real: the numbers that were replaced.
    """

    def __init__(self, form: LineForm, encoding: str, technology: str = "") -> None:
        self._form, self._encoding, self._technology = form, encoding, technology
        self._made: dict[str, str] = {}
        self.real: set[bytes] = set()

    def window(self, window: Window) -> bytes:
        """Return the masked bytes of a window, as many as it has."""
        if window.stale:
            return wipe(bytes(window.data))
        return b"".join(
            part if place % 2 else self._line(part) for place, part in enumerate(_LINE_ENDS.split(bytes(window.data)))
        )

    def _line(self, raw: bytes) -> bytes:
        events = LineParser(self._form).feed(raw + b"\r")
        if not raw or any(isinstance(event, Banner) for event in events):
            return raw
        if len(events) == 1 and isinstance(events[0], Line):
            return self._number(raw, events[0].text)
        return self._wipe_line(raw, 0)

    def _wipe_line(self, raw: bytes, start: int) -> bytes:
        """Wipe, but for the prefix: without it the line would be dropped for another reason."""
        prefix = self._form.prefix.encode()
        kept = len(prefix) if start == 0 and prefix and raw.startswith(prefix) else start
        return raw[:kept] + wipe(raw[kept:])

    def _number(self, raw: bytes, text: str) -> bytes:
        start = raw.rindex(text.encode("ascii")) if text else 0
        if text not in self._made:
            self._made[text] = self._twin(text)
        made = self._made[text].encode("ascii")
        for _ in range(_TRIES):
            # Digits around the number may be its check digits.
            around = self._around(raw[:start]), self._around(raw[start + len(made) :], tail=True)
            masked = around[0] + made + around[1]
            if LineParser(self._form).feed(masked + b"\r") == [Line(self._made[text])]:
                return masked
        raise CannotMask("Text around the numbers cannot be replaced; it looks like a check digit of its own kind.")

    def _around(self, raw: bytes, *, tail: bool = False) -> bytes:
        fixed = (self._form.suffix if tail else self._form.prefix).encode()
        kept = len(fixed) if fixed and (raw.endswith(fixed) if tail else raw.startswith(fixed)) else 0
        middle = raw[: len(raw) - kept] if tail else raw[kept:]
        drawn = _HEX.sub(lambda found: _like(found[0]), middle)
        return drawn + raw[len(raw) - kept :] if tail else raw[:kept] + drawn

    def _twin(self, text: str) -> str:
        """Return a text that the driver judges the same, with another number in it."""
        expected = self._judge(text)
        try:
            number = decode(text, self._encoding, self._technology)
        except BadCardNumber:
            return self._wiped_twin(text)
        self.real.add(number.value)
        parts = telling_parts(number.value)
        for turn in range(2 * _TRIES):
            # Short texts, of cut lines, are too short for a whole number; those are drawn digit by digit.
            drawn = self._draw(number.projection, number.value) if turn < _TRIES else self._digits(text)
            made = _in_places(text, drawn)
            if made is None or made == text:
                continue
            judged = self._judge(made)
            same_reason = not isinstance(judged, CardRefused) or judged == expected
            if type(judged) is not type(expected) or not same_reason:
                continue
            if not any(part in decode(made, self._encoding, self._technology).value for part in parts):
                return made
        raise CannotMask(f"Numbers in the form {self._encoding!r} cannot be replaced.")

    def _judge(self, text: str) -> CardRead | CardRefused:
        return judge_text("", text, self._encoding, 0, technology=self._technology)

    def _digits(self, text: str) -> str:
        letters = string.digits if self._encoding.startswith(_DECIMAL) else string.hexdigits[:16]
        return "".join(secrets.choice(letters) for letter in text if letter in string.hexdigits)

    def _draw(self, projection: str, value: bytes) -> str:
        if projection == NUMBER:
            return "".join(secrets.choice(string.digits) for _ in value)
        if projection not in (UID_PROJECTION, *LOSSY_PROJECTIONS):
            return secrets.token_hex(len(value))
        raw = (
            invented(value)
            if projection == UID_PROJECTION
            else secrets.token_bytes(7 if projection == CT_TRUNCATED else 4)
        )
        try:
            return encode(Uid(raw), self._encoding)
        except BadCardNumber:
            return ""

    def _wiped_twin(self, text: str) -> str:
        expected = self._judge(text)
        for filler in (b"0", b"9", b"F", b"Z"):
            made = wipe(text.encode("ascii"), filler).decode("ascii")
            if self._judge(made) == expected:
                return made
        raise CannotMask("The recording holds a number that was not read; it cannot be replaced.")


def wipe(raw: bytes, filler: bytes = b"0") -> bytes:
    """Replace every hex digit, and every byte that is no text by one that is none either."""
    return _NO_TEXT.sub(b"\x00", _HEX.sub(filler, raw))


def _like(digit: bytes) -> bytes:
    """Draw a digit of the same class."""
    letter = chr(digit[0])
    group = string.digits if letter.isdigit() else ("ABCDEF" if letter.isupper() else "abcdef")
    return secrets.choice(group).encode()


def _in_places(text: str, made: str) -> str | None:
    """Write a number's digits where those of another stand, with its separators and its case."""
    head = text[:2] if text[:2] in {"0x", "0X"} else ""
    rest = text[len(head) :]
    digits = "".join(letter for letter in made if letter in string.hexdigits)
    places = [place for place, letter in enumerate(rest) if letter in string.hexdigits]
    if not digits or len(digits) > len(places):
        return None
    letters = list(rest)
    lower = rest != rest.upper()
    for place, digit in zip(places, digits.rjust(len(places), "0"), strict=True):
        letters[place] = digit.lower() if lower else digit
    return head + "".join(letters)


def mask_lines(records: Sequence[Record], options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of serial-line; returns the real numbers too."""
    masked, mask = list(records), LineMask(options.form(), options.whole_encoding, options.technology)
    for window in talking_windows(records, int(options.idle_gap_ms * 1e6)):
        put_back(masked, window, mask.window(window))
    return masked, mask.real


def mask_keys(records: Sequence[Record], options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of wedge: key events become those that type the masked text; scan codes and releases go."""
    mask = LineMask(options.form(), options.whole_encoding, options.technology)
    keys = options.keys()

    def typed(place: int, record: Record) -> bytes:
        if place and records[place - 1][0] == "o":
            keys.reset()
        return b"".join(keys.feed(*event) for event in record[1])

    masked = [["k", []] if record[0] == "k" else record for record in records]
    for window in talking_windows(records, int(options.idle_gap_ms * 1e6), typed):
        text = mask.window(window)
        for place, length in window.places:
            masked[place] = ["k", [list(event) for letter in text[:length] for event in _press(letter, options)]]
            text = text[length:]
    return masked, mask.real


def _press(letter: int, options: Any) -> list[tuple[int, int, int]]:
    if letter == LOST[0]:
        return [(EV_SYN, SYN_DROPPED, 0)]
    if letter == SPOILT[0]:
        return [(EV_KEY, _NO_KEY, 1)]
    typed = [] if letter in b"\r\n" else [chr(letter)]
    strokes = keys_of("".join(typed), options.layout)
    # keys_of ends with Enter, which only a line end means.
    return [(EV_KEY, code, value) for code, value in (strokes if not typed else strokes[:-2])]


def mask_tags(records: Sequence[Record], options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of stx-etx: the version byte belongs to the number."""
    masked, fakes = list(records), Fakes()
    for window in talking_windows(records, int(options.idle_gap_ms * 1e6)):
        put_back(masked, window, b"".join(_tag(part, fakes) for part in _frames(bytes(window.data))))
    return masked, {real[1:] for real in fakes.real} | set(fakes.real)


def _frames(data: bytes) -> list[bytes]:
    return re.findall(rb"\x02[^\x02\x03]*\x03|\x02[^\x02\x03]*|[^\x02]+", data)


def _tag(part: bytes, fakes: Fakes) -> bytes:
    digits = "".join(chr(found[0]) for found in _HEX.findall(part))
    events = stx_etx.StxEtxParser().feed(part)
    if len(events) == 1 and isinstance(events[0], stx_etx.Tag):
        made = fakes.of(bytes([events[0].version]) + events[0].number)
        digits = stx_etx.encode(made[0], made[1:])[1:13].decode("ascii")
        digits = digits.lower() if part != part.upper() else digits
    else:
        # Twelve zeros would be a good frame.
        digits = "1".rjust(len(digits), "0")
    left = iter(digits)
    return _NO_TEXT.sub(b"\x00", _HEX.sub(lambda _found: next(left).encode(), part))


_SEARCH_HEAD = re.compile(rb"0001(?:80|40)(?:2004|3807|500[Aa])")
_SHORT_REPLY = re.compile(rb"[0-9A-Fa-f]{0,4}")
_ID_PLACE = 10  # after error, found, kind, bits and length


def mask_twn4(records: Sequence[Record], _options: Any) -> tuple[list[Record], set[bytes]]:
    """Mask a recording of twn4."""
    masked, fakes = list(records), Fakes()
    for window in request_windows(records):
        text, end, rest = bytes(window.data).partition(b"\r")
        put_back(masked, window, _reply(text, window.request, fakes) + end + wipe(rest))
    return masked, set(fakes.real)


def _reply(text: bytes, request: bytes, fakes: Fakes) -> bytes:
    if _SHORT_REPLY.fullmatch(text) or (request == twn4.GET_VERSION and _is_version(text)):
        return text
    try:
        reply = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        reply = b""
    if len(text) != 2 * len(reply):
        head = _SEARCH_HEAD.search(text)
        start, end = head.span() if head else (0, 0)
        return wipe(text[:start]) + text[start:end] + wipe(text[end:])
    try:
        found = twn4.parse_search(reply)
    except BadMessage:
        # The first byte, when it is an error, or the first two stay: they are what is complained of.
        return text[:2] + wipe(text[2:]) if reply[0] else text[:4] + wipe(text[4:])
    if found is None:
        return text[:4] + wipe(text[4:])
    made = fakes.of(found.number).hex()
    return text[:_ID_PLACE] + (made if text != text.upper() else made.upper()).encode()


def _is_version(text: bytes) -> bool:
    try:
        reply = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        return False
    return len(reply) > 2 and reply[1] == len(reply) - 2 and reply[2:].isascii() and reply[2:].startswith(b"TWN4")


TEXT_MASKS: dict[str, Callable[[Sequence[Record], Any], tuple[list[Record], set[bytes]]]] = {
    "serial-line": mask_lines,
    "wedge": mask_keys,
    "stx-etx": mask_tags,
    "twn4": mask_twn4,
}
