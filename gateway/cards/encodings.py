"""The forms in which MIS columns and readers print a card number.

An encoding is a name or a chain of names joined by `|`, read from left to right: `ascii-hex|hex-lsb` first undoes the
ASCII-of-hex form, then reads reversed hex. Lossless forms give projection `uid`; lossy ones keep part of the UID, carry
their own projection and are able to collide. Worked values: Nitgen eNCard-i manual p. 56, PaperCut converter manuals.

Numbers that are no ISO 14443 UID end in the name of their kind: `em4100` (5 bytes), `iso15693`, `iclass` and `felica`
(8 bytes), `legic`, `other` (up to 16). Alone it reads hex; `hex-lsb|iso15693`, `dec-msb|em4100` and
`bcc-appended|em4100` read other forms. Words of HID cards are `w35`, `w37`, `w48`, `h10302`, `c15001` and `s12906` as
facility code and card number, any other as `wNN`, the hex form of its NN bits. `unpad|` in front cuts the zeros with
which a reader fills up to a fixed width.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.cards.identity import EM4100, KINDS, UID_PROJECTION, CardNumber, identify, lengths_of
from gateway.cards.uid import Uid
from gateway.cards.wiegand import FORMATS, LONGEST_BITS, SHORTEST_BITS, W26, number_of
from gateway.errors import BadCardNumber

__all__ = ["CT_TRUNCATED", "ENCODINGS", "LOSSY_PROJECTIONS", "LOW_24", "NUMBER", "W26", "check_encoding", "decode"]

NUMBER = "number"
"""Projection of a number that is stored on the card and has nothing to do with its UID."""
LOW_24 = "24bit-dec"
CT_TRUNCATED = "ct-truncated"
LOSSY_PROJECTIONS = (W26, LOW_24, CT_TRUNCATED)
UNPAD = "unpad"

_SEPARATORS = re.compile(r"[\s:\-._]")
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.IGNORECASE)
_DECIMAL = re.compile(r"[0-9]+", re.ASCII)
_PAIR = re.compile(r"([0-9]{1,10})[\s,;:/\-]+([0-9]{1,10})", re.ASCII)
_WORD = re.compile(r"w([0-9]{2,3})", re.ASCII)
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class _Value:
    """A number on its way through a chain: still text, or already bytes of one projection.

    Attributes:
        lengths: how many bytes its kind has, with the check bytes that later steps take off.
        padded: zeros in front only fill up.
        is_iso14443a: the rules for UIDs of ISO 14443 type A hold for it.
    """

    text: str = ""
    raw: bytes = b""
    projection: str = ""
    lengths: tuple[int, ...] = ()
    padded: bool = False
    is_iso14443a: bool = True

    def of_bytes(self, raw: bytes) -> _Value:
        return replace(self, text="", raw=raw, projection=UID_PROJECTION)

    def word(self, word: int, bits: int) -> _Value:
        number = number_of(word, bits)
        return replace(self, text="", raw=number.value, projection=number.projection, is_iso14443a=False)


_Step = Callable[[_Value], _Value]


def _hex_digits(value: _Value) -> bytes:
    digits = _SEPARATORS.sub("", value.text)
    digits = digits[2:] if digits[:2] in {"0x", "0X"} else digits
    if value.padded and len(digits) % 2:
        digits = digits.removeprefix("0")
    if not _HEX.fullmatch(digits):
        raise BadCardNumber("This is not an even number of hex digits; check the encoding of this column or reader.")
    return _unpadded(bytes.fromhex(digits), value)


def _unpadded(raw: bytes, value: _Value) -> bytes:
    if not value.padded:
        return raw
    for length in sorted(value.lengths):
        if len(raw) >= length and not any(raw[:-length]):
            return raw[-length:]
    raise BadCardNumber("Without the zeros in front this number has no length of its kind.")


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


def _hex_msb(value: _Value) -> _Value:
    return value.of_bytes(_hex_digits(value))


def _hex_lsb(value: _Value) -> _Value:
    return value.of_bytes(_hex_digits(value)[::-1])


def _dec_msb(value: _Value) -> _Value:
    return value.of_bytes(_to_bytes(_whole_number(value), value.lengths))


def _dec_lsb(value: _Value) -> _Value:
    return value.of_bytes(_to_bytes(_whole_number(value), value.lengths)[::-1])


def _dec_four(value: _Value) -> _Value:
    # 8H10D: the four bytes, first byte most significant, as ten decimal digits; 125 kHz readers print it.
    return replace(value.of_bytes(_to_bytes(_whole_number(value), (4,))), is_iso14443a=False)


def _dec_low_24(value: _Value) -> _Value:
    # 6H8D: only the last three of four UID bytes survive, as eight decimal digits.
    return replace(value, raw=_to_bytes(_whole_number(value), (3,)), projection=LOW_24)


def _pair(value: _Value, first_digits: int) -> tuple[int, int]:
    text = value.text.strip()
    if found := _PAIR.fullmatch(text):
        return int(found[1]), int(found[2])
    if not first_digits or not _DECIMAL.fullmatch(text) or len(text) > first_digits + 5:
        raise BadCardNumber("This is not a facility code and a card number; expected a form such as 082,40198.")
    padded = text.zfill(first_digits + 5)
    return int(padded[:first_digits]), int(padded[first_digits:])


def _w26(value: _Value) -> _Value:
    # H10301: facility code = first UID byte, card number = second and third.
    return value.word(FORMATS["h10301"].word(*_pair(value, 3)), 26)


def _w34(value: _Value) -> _Value:
    return value.word(FORMATS["h10306"].word(*_pair(value, 5)), 34)


def _facility_and_card(name: str) -> _Step:
    form = FORMATS[name]

    def step(value: _Value) -> _Value:
        facility, card = _pair(value, 0) if form.facility else (0, _whole_number(value))
        return value.word(form.word(facility, card), form.bits)

    return step


def _bare_word(bits: int) -> _Step:
    def step(value: _Value) -> _Value:
        raw = value.raw or _hex_digits(value)
        if len(raw) != (bits + 7) // 8:
            raise BadCardNumber(f"A word of {bits} bits is {(bits + 7) // 8 * 2} hex digits.")
        return value.word(int.from_bytes(raw, "big"), bits)

    return step


def _without_check(value: _Value, check_of: Callable[[bytes], int], name: str) -> _Value:
    raw = value.raw or _hex_digits(value)
    if check_of(raw[:-1]) != raw[-1]:
        raise BadCardNumber(f"The last byte is not the {name} of the others; check the encoding.")
    return value.of_bytes(raw[:-1])


def _bcc_appended(value: _Value) -> _Value:
    return _without_check(value, _xor, "check byte (BCC)")


def _sum_appended(value: _Value) -> _Value:
    # Inditag and others: all bytes with the check byte add up to 00.
    return _without_check(value, lambda body: -sum(body) & 0xFF, "check sum")


def _ascii_hex(value: _Value) -> _Value:
    try:
        return replace(value, text=_hex_digits(replace(value, padded=False)).decode("ascii"))
    except UnicodeDecodeError:
        raise BadCardNumber("This is not the hex form of ASCII text.") from None


def _ct_truncated(value: _Value) -> _Value:
    # Cheap readers cut a 7-byte UID after its first cascade level and print 88 u0 u1 u2 reversed, in decimal.
    raw = _to_bytes(_whole_number(value), (4,))[::-1]
    if raw[0] != 0x88:
        raise BadCardNumber("A cut 7-byte UID starts with the cascade tag 88; this number does not.")
    return replace(value, raw=raw[1:], projection=CT_TRUNCATED)


def _stored_number(value: _Value) -> _Value:
    return replace(value, raw=str(_whole_number(value)).encode(), projection=NUMBER)


def _kind(name: str) -> _Step:
    def step(value: _Value) -> _Value:
        number = identify(value.raw or _hex_digits(value), name)
        return replace(value, text="", raw=number.value, projection=name, is_iso14443a=False)

    return step


def _unpad(value: _Value) -> _Value:
    return replace(value, padded=True)


_BYTE_STEPS: dict[str, _Step] = {
    "hex-msb": _hex_msb,
    "hex-lsb": _hex_lsb,
    "dec-msb": _dec_msb,
    "dec-lsb": _dec_lsb,
}
_CHECK_STEPS: dict[str, _Step] = {"bcc-appended": _bcc_appended, "sum-appended": _sum_appended}
_KIND_STEPS: dict[str, _Step] = {name: _kind(name) for name in KINDS}
_STEPS: dict[str, _Step] = {
    **_BYTE_STEPS,
    "8h10d": _dec_four,
    "6h8d": _dec_low_24,
    "2h3d-4h5d": _w26,
    "w26": _w26,
    "w34": _w34,
    **_CHECK_STEPS,
    "ascii-hex": _ascii_hex,
    "ct-truncated": _ct_truncated,
    "number": _stored_number,
    **_KIND_STEPS,
    "w35": _facility_and_card("corporate-1000-35"),
    "w37": _facility_and_card("h10304"),
    "w48": _facility_and_card("corporate-1000-48"),
    "h10302": _facility_and_card("h10302"),
    "c15001": _facility_and_card("c15001"),
    "s12906": _facility_and_card("s12906"),
}
ENCODINGS = tuple(_STEPS)
_TEXT_TO_TEXT = {"ascii-hex", UNPAD}
DECIMAL_FORMS: dict[str, int] = {"8h10d": 10, "6h8d": 8, "2h3d-4h5d": 8, "w26": 8, "w34": 10, "ct-truncated": 0}
"""Forms in decimal digits, and how many a reader prints; 0 where that depends on the number."""
DECIMAL_FORMS |= dict.fromkeys(("dec-msb", "dec-lsb", "number", "w35", "w37", "w48", "h10302", "c15001", "s12906"), 0)


def _step_of(name: str) -> _Step | None:
    if name == UNPAD:
        return _unpad
    found = _WORD.fullmatch(name)
    if name not in _STEPS and found and SHORTEST_BITS <= int(found[1]) <= LONGEST_BITS:
        return _bare_word(int(found[1]))
    return _STEPS.get(name)


def check_encoding(encoding: str) -> None:
    """Check the name of an encoding or chain.

    Raises:
        BadCardNumber: a name is unknown, or a step stands where the one before does not give what it reads.
    """
    names = encoding.split("|")
    for name in names:
        if _step_of(name) is None:
            raise BadCardNumber(f"{name!r} is not an encoding; known are {', '.join(ENCODINGS)}, unpad and wNN.")
    for before, after in itertools.pairwise(names):
        reads_bytes = after in _CHECK_STEPS or after in KINDS or (after not in _STEPS and after != UNPAD)
        gives_bytes = before in _BYTE_STEPS or before in _CHECK_STEPS
        if not (before in _TEXT_TO_TEXT or (gives_bytes and reads_bytes)):
            raise BadCardNumber(f"In {encoding!r} the step {after!r} cannot follow {before!r}.")
    if names[-1] in _TEXT_TO_TEXT:
        raise BadCardNumber(f"{encoding!r} ends in text; add the form of that text, for instance '|hex-msb'.")


def decode(text: str, encoding: str, technology: str = "") -> CardNumber:
    """Read a printed card number.

    Prefixes such as `0x`, separators, padding zeros and letter case do not matter. Decimal forms take the shortest UID
    length that holds the number.

    Args:
        technology: of the cards, one of cards.identity.TECHNOLOGIES; empty leaves it to the encoding, for which `hex-`
            and `dec-` numbers are UIDs of ISO 14443 type A, and those of 8h10d and w34 are not.

    Raises:
        BadCardNumber: the text is not in this encoding; the message never repeats the text.
    """
    if len(text) > _LONGEST_TEXT:
        raise BadCardNumber("This text is too long for a card number.")
    names = encoding.split("|")
    kind = names[-1] if names[-1] in KINDS else technology
    value = _Value(text=text)
    for place, name in enumerate(names):
        step = _step_of(name)
        if step is None:
            raise BadCardNumber(f"{name!r} is not an encoding; known are {', '.join(ENCODINGS)}, unpad and wNN.")
        check_bytes = sum(later in _CHECK_STEPS for later in names[place + (name not in _CHECK_STEPS) :])
        value = step(replace(value, lengths=tuple(length + check_bytes for length in lengths_of(kind))))
    if value.projection == UID_PROJECTION:
        if technology or value.is_iso14443a:
            return identify(value.raw, technology)
        return CardNumber(UID_PROJECTION, value.raw, is_iso14443a=False)
    if not value.projection:
        raise BadCardNumber(f"The encoding {encoding!r} ends in text, not in a number.")
    return CardNumber(value.projection, value.raw, value.is_iso14443a)


def project(number: Uid | CardNumber, projection: str) -> CardNumber | None:
    """Return what another projection keeps of a whole number, None when it has no such form."""
    raw, known = (number.raw, UID_PROJECTION) if isinstance(number, Uid) else (number.value, number.projection)
    if known == projection:
        return CardNumber(projection, raw)
    if known == EM4100:
        # Ten and eight decimal digits, or facility and card number, are printed on the tag; all leave its first byte.
        kept = {UID_PROJECTION: raw[1:], LOW_24: raw[2:], W26: raw[2:]}.get(projection)
        return CardNumber(projection, kept, is_iso14443a=False) if kept else None
    if known != UID_PROJECTION:
        return None
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
