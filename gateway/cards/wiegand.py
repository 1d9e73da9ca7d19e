"""Wiegand words: what a reader sends bit by bit, or inside an OSDP card report.

The first bit on the wire is the most significant. Where a length has an agreed form, its parity is checked and the
number is what stands between the parity bits; any other word is its own number, known by its length.

Field positions and parity masks: HID's published formats, as in the table of the proxmark3 client
(client/src/wiegand_formats.c), whose positions count from the first bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.cards.identity import UID_PROJECTION, CardNumber, identify, lengths_of
from gateway.errors import BadCardNumber

W26 = "w26"
# Words below this length are key presses, or the rest of a word whose beginning was lost.
SHORTEST_BITS, LONGEST_BITS = 20, 128
# Lengths that have been in use with their parity from the first release; a wrong one is damage, no other form.
_STRICT = frozenset({26, 34, 58})


@dataclass(frozen=True, slots=True)
class Field:
    """Bits of a word: the first one, counted from the first on the wire, and how many."""

    start: int
    bits: int

    def of(self, word: int, word_bits: int) -> int:
        return word >> (word_bits - self.start - self.bits) & (1 << self.bits) - 1

    def put(self, value: int, word_bits: int) -> int:
        return value << (word_bits - self.start - self.bits)


@dataclass(frozen=True, slots=True)
class Parity:
    """A parity bit, counted from the last on the wire, and a mask of the bits that it covers."""

    place: int
    mask: int
    is_odd: bool

    def bit(self, word: int) -> int:
        return (word & self.mask).bit_count() % 2 ^ self.is_odd


@dataclass(frozen=True, slots=True)
class Format:
    """One agreed form of a word.

    Attributes:
        card: where the card number stands; `facility` the facility or company code, None for forms without one.
        parities: in the order in which they are computed.
        fixed: a field that this form fills with a constant.
    """

    bits: int
    card: Field
    facility: Field | None
    parities: tuple[Parity, ...]
    fixed: tuple[Field, int] | None = None

    def is_whole(self, word: int) -> bool:
        return all(word >> parity.place & 1 == parity.bit(word) for parity in self.parities)

    def with_parity(self, word: int) -> int:
        for parity in self.parities:
            word |= parity.bit(word) << parity.place
        return word

    def word(self, facility: int, card: int) -> int:
        """Return the word of a facility code and card number.

        Raises:
            BadCardNumber: one of them is too large for this form.
        """
        word = self.fixed[0].put(self.fixed[1], self.bits) if self.fixed else 0
        for name, place, value in (("facility code", self.facility, facility), ("card number", self.card, card)):
            if place is None:
                continue
            if value >= 1 << place.bits:
                raise BadCardNumber(f"The {name} of a {self.bits}-bit number is at most {(1 << place.bits) - 1}.")
            word |= place.put(value, self.bits)
        return self.with_parity(word)


def _mask(first: int, last: int, bits: int) -> int:
    """Return the mask of a stretch of bits, both ends counted from the first on the wire."""
    return (1 << bits - first) - (1 << bits - last - 1)


def _halves(bits: int, card: Field, facility: Field | None) -> Format:
    # The leading even parity covers the first half, the trailing odd parity the second.
    inner, half = bits - 2, (bits - 1) // 2
    even = Parity(bits - 1, _mask(1, half, bits), is_odd=False)
    odd = Parity(0, _mask(inner + 1 - half, inner, bits), is_odd=True)
    return Format(bits, card, facility, (even, odd))


_CORPORATE_35 = (
    Parity(33, 0x1_B6DB_6DB6, is_odd=False),
    Parity(0, 0x3_6DB6_DB6C, is_odd=True),
    Parity(34, 0x3_FFFF_FFFF, is_odd=True),
)
_CORPORATE_48 = (
    Parity(46, 0x1B6D_B6DB_6DB6, is_odd=False),
    Parity(0, 0x36DB_6DB6_DB6C, is_odd=True),
    Parity(47, 0x7FFF_FFFF_FFFF, is_odd=True),
)
_KEYSCAN_OEM = 900
FORMATS: dict[str, Format] = {
    "h10301": _halves(26, Field(9, 16), Field(1, 8)),
    "h10306": _halves(34, Field(17, 16), Field(1, 16)),
    "w58": _halves(58, Field(1, 56), None),
    "corporate-1000-35": Format(35, Field(14, 20), Field(2, 12), _CORPORATE_35),
    "h10302": _halves(37, Field(1, 35), None),
    "h10304": _halves(37, Field(17, 19), Field(1, 16)),
    "corporate-1000-48": Format(48, Field(24, 23), Field(2, 22), _CORPORATE_48),
    # Several forms of 36 bits are in use that parity does not tell apart: the whole word is the number.
    "c15001": Format(
        36,
        Field(19, 16),
        Field(11, 8),
        (Parity(35, _mask(1, 17, 36), is_odd=False), Parity(0, _mask(18, 34, 36), is_odd=True)),
        (Field(1, 10), _KEYSCAN_OEM),
    ),
    "s12906": Format(
        36,
        Field(11, 24),
        Field(1, 8),
        (Parity(35, _mask(1, 17, 36), is_odd=True), Parity(0, _mask(17, 34, 36), is_odd=True)),
    ),
}
# Bits that are the number, for the lengths whose parity is agreed.
_AGREED: dict[int, tuple[Format, Field, str]] = {
    26: (FORMATS["h10301"], Field(1, 24), W26),
    34: (FORMATS["h10306"], Field(1, 32), UID_PROJECTION),
    58: (FORMATS["w58"], Field(1, 56), UID_PROJECTION),
    35: (FORMATS["corporate-1000-35"], Field(2, 32), "w35"),
    37: (FORMATS["h10302"], Field(1, 35), "w37"),
    48: (FORMATS["corporate-1000-48"], Field(2, 45), "w48"),
}
CHECKED_BITS = tuple(sorted(_AGREED))
"""Lengths of which parity is known."""


def has_agreed_parity(word: int, bits: int) -> bool | None:
    """Return whether a word has the parity of its length; None when its length has no agreed one."""
    return _AGREED[bits][0].is_whole(word) if bits in _AGREED else None


def number_of(word: int, bits: int, technology: str = "") -> CardNumber:
    """Read a word of any length from 20 to 128 bits.

    Words of 26, 34, 35, 37, 48 and 58 bits give what stands between their parity bits; words of 32, 56 and 80 bits are
    the number itself. Any other, and one of 35, 37 or 48 bits that has another parity than the agreed one, is known by
    all its bits: projections such as `w36` and `w37-raw`.

    Args:
        word: the first bit on the wire in the most significant of `bits`.
        technology: of the cards, where it is known (cards.identity): whole bytes then stand for such a number. Left
            empty, the rules for random UIDs hold for 32, 56 and 80 bits, which readers of UIDs send, and not for words
            with parity, which may come from any card.

    Raises:
        BadCardNumber: too short or too long, or a wrong parity bit of 26, 34 or 58 bits; treat as no read.
    """
    if not SHORTEST_BITS <= bits <= LONGEST_BITS or word >> bits:
        raise BadCardNumber(f"A Wiegand word of {bits} bits is no card number; those have {SHORTEST_BITS} and more.")
    raw = word.to_bytes((bits + 7) // 8, "big")
    if not bits % 8 and len(raw) in lengths_of(technology):
        return identify(raw, technology) if technology else CardNumber(UID_PROJECTION, raw)
    if bits not in _AGREED:
        return CardNumber(f"w{bits}", raw, is_iso14443a=False)
    form, inner, projection = _AGREED[bits]
    if form.is_whole(word):
        data = inner.of(word, bits).to_bytes((inner.bits + 7) // 8, "big")
        if technology and projection == UID_PROJECTION and len(data) in lengths_of(technology):
            return identify(data, technology)
        return CardNumber(projection, data, is_iso14443a=False)
    if bits in _STRICT:
        raise BadCardNumber(
            f"A parity bit of the Wiegand word is wrong ({bits} bits); check the wires, or the reader's own form."
        )
    return CardNumber(f"w{bits}-raw", raw, is_iso14443a=False)


def word_of(number: bytes) -> tuple[int, int]:
    """Return the word with parity, and its bits, that a reader sends for 3, 4 or 7 bytes."""
    bits = len(number) * 8 + 2
    if bits not in _STRICT:
        raise BadCardNumber(f"There is no Wiegand word with parity for {len(number)} bytes.")
    return _AGREED[bits][0].with_parity(int.from_bytes(number, "big") << 1), bits


def word_with(raw: bytes, bits: int, projection: str) -> int:
    """Return a word that number_of reads as other bytes of the same projection; what its bits do not hold is cut."""
    word = int.from_bytes(raw, "big")
    if bits not in _AGREED:
        return word & (1 << bits) - 1
    form, inner, _ = _AGREED[bits]
    if projection.endswith("-raw"):
        word &= (1 << bits) - 1
        return word ^ 1 if form.is_whole(word) else word
    return form.with_parity(inner.put(word & (1 << inner.bits) - 1, bits))
