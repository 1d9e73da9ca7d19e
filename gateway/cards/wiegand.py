"""Wiegand words: what a reader sends bit by bit, or inside an OSDP card report.

The first bit on the wire is the most significant. Even parity stands in front and covers the first half, odd parity
stands after and covers the second.
"""

from __future__ import annotations

from gateway.cards.encodings import W26
from gateway.cards.identity import UID_PROJECTION, CardNumber
from gateway.errors import BadCardNumber

_WITH_PARITY = {26: W26, 34: UID_PROJECTION, 58: UID_PROJECTION}
_PLAIN = frozenset({32, 56, 80})


def number_of(word: int, bits: int) -> CardNumber:
    """Read a word of 26, 34 or 58 bits with parity, or of 32, 56 or 80 bits that is the UID itself.

    Args:
        word: the first bit on the wire in the most significant of `bits`.

    Raises:
        BadCardNumber: another length, or a wrong parity bit; treat as no read.
    """
    if bits in _PLAIN:
        return CardNumber(UID_PROJECTION, word.to_bytes(bits // 8, "big"))
    projection = _WITH_PARITY.get(bits)
    if projection is None:
        raise BadCardNumber(f"A Wiegand word of {bits} bits has no agreed form.")
    half = bits // 2
    first, second = word >> half, word & (1 << half) - 1
    if first.bit_count() % 2 or not second.bit_count() % 2:
        raise BadCardNumber("A parity bit of the Wiegand word is wrong; check the wires.")
    inner = word >> 1 & (1 << bits - 2) - 1
    return CardNumber(projection, inner.to_bytes((bits - 2) // 8, "big"))


def word_of(number: bytes) -> tuple[int, int]:
    """Return the word with parity, and its bits, that a reader sends for 3, 4 or 7 bytes."""
    bits = len(number) * 8 + 2
    if bits not in _WITH_PARITY:
        raise BadCardNumber(f"There is no Wiegand word with parity for {len(number)} bytes.")
    half = bits // 2
    inner = int.from_bytes(number, "big") << 1
    word = inner | ((inner >> half).bit_count() % 2) << bits - 1
    return word | (word & (1 << half) - 1).bit_count() % 2 ^ 1, bits
