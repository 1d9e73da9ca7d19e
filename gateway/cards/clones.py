"""Signs that a card is a rewritable copy; a card without them may still be a copy.

Sources: ISO/IEC 14443-3 section 6.5.2 (ATQA), NXP AN10833, MF1S50YYX data sheet, Proxmark3 notes on magic cards.
"""

from __future__ import annotations

import enum

BACKDOOR_WAKE_UP, BACKDOOR_OPEN = b"\x40", b"\x43"
BACKDOOR_WAKE_UP_BITS = 7
ACKNOWLEDGE, ACKNOWLEDGE_BITS = 0x0A, 4
NONCE_BYTES = 4
# Cards sold as "Gen2" or CUID give this answer to select; a MIFARE Classic gives none, a Plus gives others.
GEN2_ATS = bytes.fromhex("0978009102DABC1910")

_CLASSIC_SAKS = frozenset({0x08, 0x09, 0x18})
_SIZE_BITS, _ANTICOLLISION_BITS = 0xC0, 0x1F


class Sign(enum.StrEnum):
    """The evidence from one card.

    Attributes:
        STATIC_NONCE: some cheap cards of honest makers have it too.
    """

    BACKDOOR = "backdoor"
    STATIC_NONCE = "static_nonce"
    IMPOSSIBLE_ANSWER = "impossible_answer"
    GEN2_ATS = "gen2_ats"


def is_classic(sak: int) -> bool:
    """Return whether a card claims to be a MIFARE Classic and nothing else."""
    return sak in _CLASSIC_SAKS


def is_impossible(uid: bytes, atqa: bytes, sak: int) -> bool:
    """Return whether no genuine card gives these answers together.

    Args:
        atqa: of this card alone, as sent, low byte first.
    """
    low, high = atqa
    if (low & _ANTICOLLISION_BITS).bit_count() != 1:
        return True
    # A card that was issued with 7 bytes and shows 4 may keep the bits of the longer one, never the other way round.
    if low & _SIZE_BITS == 0 and len(uid) > 4:
        return True
    return is_classic(sak) and (high != 0 or low & _ANTICOLLISION_BITS not in {0x02, 0x04})
