"""Describes the kind of bytes a reader sent, to diagnose wrong settings; never the bytes themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEX = re.compile(rb"[0-9A-Fa-f]+")
_STX, _ETX = b"\x02", b"\x03"
_TAG_DIGITS = 12
# How frames of protocols with a driver of their own begin.
_HEADS = {
    b"\x00\x00\xff": ("a PN532", 'driver = "pn532"'),
    b"\x55\x55\x00": ("a PN532", 'driver = "pn532"'),
    b"\xaa\xbb": ("an SL500", 'driver = "sl500"'),
    b"\x53": ("OSDP", 'driver = "osdp"'),
    b"\xff\x53": ("OSDP", 'driver = "osdp"'),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of bytes.

    Attributes:
        kind: one phrase, such as `10 hex digits between STX and ETX`.
        proposal: what to look at or to set; empty when there is nothing to say.
    """

    kind: str = ""
    proposal: str = ""


def shape_of(raw: bytes) -> Shape:
    """Describe the first bytes of a frame that was dropped."""
    inner = raw.strip(b"\r\n")
    if not inner:
        return Shape()
    for head, (name, setting) in _HEADS.items():
        if inner.startswith(head) and not _is_text(inner):
            return Shape(f"begins as frames of {name} do", f"if it is one, set {setting}")
    if _STX in inner or _ETX in inner:
        return _framed(inner)
    if not any(inner):
        return Shape(
            "zero bytes only, as a line without signal or a wrong baud gives",
            "check the wires, then try another baud, parity and data_bits",
        )
    high = sum(byte > 0x7F for byte in inner)
    if high:
        return Shape(
            f"{high} of its first {len(inner)} bytes above 7F",
            "wrong baud? try 9600, 19200, 38400, 57600 and 115200; else parity, data_bits = 7, or a binary protocol "
            "with a driver of its own",
        )
    if 0 in inner:
        return Shape(
            "zero bytes in text, as parity and framing errors give", "check baud, parity and data_bits, then the wires"
        )
    if not _is_text(inner):
        first = next(byte for byte in inner if not 0x20 <= byte < 0x7F)
        return Shape(f"text with control byte {first:02X}", "if it frames the number, name it with start or end")
    return Shape(text_kind(inner.decode("ascii")))


def _framed(inner: bytes) -> Shape:
    body = inner.strip(_STX + _ETX + b"\r\n")
    kind = f"{text_kind(body.decode('ascii'))} between STX and ETX" if _is_text(body) else "bytes with STX or ETX"
    if len(body) == _TAG_DIGITS and _HEX.fullmatch(body):
        return Shape(kind, 'starts with 02, ends with 03: set driver = "stx-etx"')
    if _is_text(body):
        return Shape(kind, 'starts with 02, ends with 03: set driver = "serial-line", start = "STX" and end = "ETX"')
    return Shape(kind, 'set start = "STX" and end = "ETX", or check baud, parity and data_bits')


def _is_text(raw: bytes) -> bool:
    return bool(raw) and all(0x20 <= byte < 0x7F for byte in raw)


def text_kind(text: str) -> str:
    """Describe printable text by its digits and length."""
    plain = re.sub(r"[\s:\-._,;/]", "", text)
    separators = " with separators" if len(plain) != len(text.strip()) else ""
    if plain.isdecimal():
        return f"{len(plain)} decimal digits{separators}"
    if plain and _HEX.fullmatch(plain.encode("ascii", "replace")):
        return f"{len(plain)} hex digits{separators}"
    return f"text of {len(text)} characters"
