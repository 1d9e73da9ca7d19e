"""The forms in which MIS columns and readers print a card number.

An encoding is a name or a chain of names joined by `|`, read from left to right: `ascii-hex|hex-lsb` first undoes the
ASCII-of-hex form, then reads reversed hex. Lossless forms give projection `uid`; lossy ones keep part of the UID, carry
their own projection and are able to collide. Worked values: Nitgen eNCard-i manual p. 56, PaperCut converter manuals.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

from gateway.cards.identity import UID_PROJECTION, CardNumber
from gateway.cards.uid import UID_LENGTHS, Uid
from gateway.errors import BadCardNumber

NUMBER = "number"
"""Projection of a number that is stored on the card and has nothing to do with its UID."""
W26 = "w26"
LOW_24 = "24bit-dec"
CT_TRUNCATED = "ct-truncated"
LOSSY_PROJECTIONS = (W26, LOW_24, CT_TRUNCATED)

_SEPARATORS = re.compile(r"[\s:\-._]")
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.IGNORECASE)
_DECIMAL = re.compile(r"[0-9]+")
_PAIR = re.compile(r"([0-9]{1,5})[\s,;:/\-]+([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class _Value:
    """A number on its way through a chain: still text, or already bytes of one projection."""

    text: str = ""
    raw: bytes = b""
    projection: str = ""


_Step = Callable[[_Value, tuple[int, ...]], _Value]


def _hex_digits(value: _Value) -> bytes:
    digits = _SEPARATORS.sub("", value.text)
    digits = digits[2:] if digits[:2] in {"0x", "0X"} else digits
    if not _HEX.fullmatch(digits):
        raise BadCardNumber("This is not an even number of hex digits; check the encoding of this column or reader.")
    return bytes.fromhex(digits)


def _whole_number(value: _Value) -> int:
    digits = value.text.strip().replace(" ", "")
    if not _DECIMAL.fullmatch(digits):
        raise BadCardNumber("This is not a decimal number; a spreadsheet may have changed it to the form 4.7E+08.")
    return int(digits)


def _to_bytes(number: int, lengths: tuple[int, ...]) -> bytes:
    for length in lengths:
        if number < 1 << 8 * length:
            return number.to_bytes(length, "big")
    raise BadCardNumber("This decimal number is too large for a card number.")


def _hex_msb(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    return _Value(raw=_hex_digits(value), projection=UID_PROJECTION)


def _hex_lsb(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    return _Value(raw=_hex_digits(value)[::-1], projection=UID_PROJECTION)


def _dec_msb(value: _Value, lengths: tuple[int, ...]) -> _Value:
    return _Value(raw=_to_bytes(_whole_number(value), lengths), projection=UID_PROJECTION)


def _dec_lsb(value: _Value, lengths: tuple[int, ...]) -> _Value:
    return _Value(raw=_to_bytes(_whole_number(value), lengths)[::-1], projection=UID_PROJECTION)


def _dec_four(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    # 8H10D: the four UID bytes, first byte most significant, as ten decimal digits.
    return _Value(raw=_to_bytes(_whole_number(value), (4,)), projection=UID_PROJECTION)


def _dec_low_24(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    # 6H8D: only the last three of four UID bytes survive, as eight decimal digits.
    return _Value(raw=_to_bytes(_whole_number(value), (3,)), projection=LOW_24)


def _pair(value: _Value, first_digits: int) -> tuple[int, int]:
    text = value.text.strip()
    if found := _PAIR.fullmatch(text):
        return int(found[1]), int(found[2])
    if not _DECIMAL.fullmatch(text) or len(text) > first_digits + 5:
        raise BadCardNumber("This is not a facility code and a card number; expected a form such as 082,40198.")
    padded = text.zfill(first_digits + 5)
    return int(padded[:first_digits]), int(padded[first_digits:])


def _w26(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    # H10301: facility code = first UID byte, card number = second and third.
    facility, card = _pair(value, 3)
    if facility > 0xFF or card > 0xFFFF:
        raise BadCardNumber("A 26-bit number has a facility code up to 255 and a card number up to 65535.")
    return _Value(raw=bytes([facility]) + card.to_bytes(2, "big"), projection=W26)


def _w34(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    first, second = _pair(value, 5)
    if first > 0xFFFF or second > 0xFFFF:
        raise BadCardNumber("Each half of a 34-bit number is at most 65535.")
    return _Value(raw=first.to_bytes(2, "big") + second.to_bytes(2, "big"), projection=UID_PROJECTION)


def _bcc_appended(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    raw = value.raw or _hex_digits(value)
    body, check = raw[:-1], raw[-1]
    computed = 0
    for byte in body:
        computed ^= byte
    if computed != check:
        raise BadCardNumber("The last byte is not the check byte (BCC) of the others; check the encoding.")
    return _Value(raw=body, projection=UID_PROJECTION)


def _ascii_hex(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    try:
        return _Value(text=_hex_digits(value).decode("ascii"))
    except UnicodeDecodeError:
        raise BadCardNumber("This is not the hex form of ASCII text.") from None


def _ct_truncated(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    # Cheap readers cut a 7-byte UID after its first cascade level and print 88 u0 u1 u2 reversed, in decimal.
    raw = _to_bytes(_whole_number(value), (4,))[::-1]
    if raw[0] != 0x88:
        raise BadCardNumber("A cut 7-byte UID starts with the cascade tag 88; this number does not.")
    return _Value(raw=raw[1:], projection=CT_TRUNCATED)


def _stored_number(value: _Value, _lengths: tuple[int, ...]) -> _Value:
    return _Value(raw=str(_whole_number(value)).encode(), projection=NUMBER)


_STEPS: dict[str, _Step] = {
    "hex-msb": _hex_msb,
    "hex-lsb": _hex_lsb,
    "dec-msb": _dec_msb,
    "dec-lsb": _dec_lsb,
    "8h10d": _dec_four,
    "6h8d": _dec_low_24,
    "2h3d-4h5d": _w26,
    "w26": _w26,
    "w34": _w34,
    "bcc-appended": _bcc_appended,
    "ascii-hex": _ascii_hex,
    "ct-truncated": _ct_truncated,
    "number": _stored_number,
}
ENCODINGS = tuple(_STEPS)
_TEXT_TO_TEXT = {"ascii-hex"}
_AFTER_BYTES = {"bcc-appended"}


def check_encoding(encoding: str) -> None:
    """Check the name of an encoding or chain.

    Raises:
        BadCardNumber: a name is unknown, or a step stands where the one before does not give what it reads.
    """
    names = encoding.split("|")
    for name in names:
        if name not in _STEPS:
            raise BadCardNumber(f"{name!r} is not an encoding; known are {', '.join(ENCODINGS)}.")
    for before, after in itertools.pairwise(names):
        if (before in _TEXT_TO_TEXT) == (after in _AFTER_BYTES):
            raise BadCardNumber(f"In {encoding!r} the step {after!r} cannot follow {before!r}.")
    if names[-1] in _TEXT_TO_TEXT:
        raise BadCardNumber(f"{encoding!r} ends in text; add the form of that text, for instance '|hex-msb'.")


def decode(text: str, encoding: str) -> CardNumber:
    """Read a printed card number.

    Prefixes such as `0x`, separators, padding zeros and letter case do not matter. Decimal forms take the shortest UID
    length that holds the number.

    Raises:
        BadCardNumber: the text is not in this encoding; the message never repeats the text.
    """
    names = encoding.split("|")
    value = _Value(text=text)
    for place, name in enumerate(names):
        step = _STEPS.get(name)
        if step is None:
            raise BadCardNumber(f"{name!r} is not an encoding; known are {', '.join(ENCODINGS)}.")
        check_byte = "bcc-appended" in names[place + 1 :]
        value = step(value, tuple(length + check_byte for length in UID_LENGTHS))
    if value.projection == UID_PROJECTION:
        return CardNumber.of_uid(Uid(value.raw))
    if not value.projection:
        raise BadCardNumber(f"The encoding {encoding!r} ends in text, not in a number.")
    return CardNumber(value.projection, value.raw)


def project(uid: Uid, projection: str) -> CardNumber | None:
    """Return what a lossy projection keeps of a whole UID, None when it does not apply to this length."""
    raw = uid.raw
    if projection == UID_PROJECTION:
        return CardNumber(UID_PROJECTION, raw)
    if projection == W26 and len(raw) == 4:
        return CardNumber(W26, raw[:3])
    if projection == LOW_24 and len(raw) == 4:
        return CardNumber(LOW_24, raw[1:])
    if projection == CT_TRUNCATED and len(raw) > 4:
        return CardNumber(CT_TRUNCATED, raw[:3])
    return None


def encode(uid: Uid, encoding: str) -> str:
    """Print a whole UID as a reader with this encoding would; the counterpart of decode for one-step encodings.

    Raises:
        BadCardNumber: the encoding does not exist or cannot hold a UID of this length.
    """
    raw = uid.raw
    whole: dict[str, Callable[[], str]] = {
        "hex-msb": lambda: raw.hex().upper(),
        "hex-lsb": lambda: raw[::-1].hex().upper(),
        "dec-msb": lambda: str(int.from_bytes(raw, "big")),
        "dec-lsb": lambda: str(int.from_bytes(raw, "little")),
        "bcc-appended": lambda: (raw + bytes([_xor(raw)])).hex().upper(),
        "ascii-hex|hex-msb": lambda: raw.hex().upper().encode().hex().upper(),
    }
    four: dict[str, Callable[[], str]] = {
        "8h10d": lambda: f"{int.from_bytes(raw, 'big'):010d}",
        "6h8d": lambda: f"{int.from_bytes(raw[1:], 'big'):08d}",
        "w26": lambda: f"{raw[0]:03d},{int.from_bytes(raw[1:3], 'big'):05d}",
        "w34": lambda: f"{int.from_bytes(raw[:2], 'big'):05d},{int.from_bytes(raw[2:], 'big'):05d}",
    }
    four["2h3d-4h5d"] = four["w26"]
    if encoding in whole:
        return whole[encoding]()
    if encoding == "ct-truncated" and len(raw) > 4:
        return str(int.from_bytes(b"\x88" + raw[:3], "little"))
    if encoding in four and len(raw) == 4:
        return four[encoding]()
    raise BadCardNumber(f"{encoding!r} cannot print a UID of {len(raw)} bytes.")


def _xor(raw: bytes) -> int:
    check = 0
    for byte in raw:
        check ^= byte
    return check
