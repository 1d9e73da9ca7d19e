"""The keyed card key: the only form of a card number that leaves a reader's process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from gateway.cards.uid import RANDOM_ID, UID_LENGTHS, Uid
from gateway.errors import BadCardNumber

CARD_KEY_BYTES = 16
UID_PROJECTION = "uid"
EM4100 = "em4100"
ISO14443A, LOW_FREQUENCY = "iso14443a", "125khz"
# Numbers that are no ISO 14443 UID: what each is called, and how many bytes it has. LEGIC prime has 4, or 5 with its
# check byte, LEGIC advant 7 or 8.
KINDS: dict[str, tuple[int, ...]] = {
    EM4100: (5,),
    "iso15693": (8,),
    "iclass": (8,),
    "felica": (8,),
    "legic": (4, 5, 7, 8),
    "other": tuple(range(1, 17)),
}
TECHNOLOGIES = (ISO14443A, LOW_FREQUENCY, *KINDS)
_ISO15693_HEAD = 0xE0


@dataclass(frozen=True, slots=True)
class CardNumber:
    """A card number and the projection it is known in.

    Attributes:
        projection: `uid` for the whole UID, a name of KINDS for other whole numbers, else the name of a lossy form or
            of a Wiegand word, such as `w26` (see cards.encodings and cards.wiegand).
        value: the number's bytes in the order the projection defines.
        is_iso14443a: False where a number of projection `uid` is known to be none, or may be none, such as a 125 kHz
            number or a Wiegand word; the rules for random UIDs do not hold for it. No part of the identity.
    """

    projection: str
    value: bytes
    is_iso14443a: bool = field(default=True, compare=False)

    @classmethod
    def of_uid(cls, uid: Uid) -> CardNumber:
        return cls(UID_PROJECTION, uid.raw)

    @property
    def tail(self) -> str:
        """Return the last two bytes as upper-case hex, the only part people may see."""
        return self.value[-2:].hex().upper()

    @property
    def is_random(self) -> bool:
        """Return whether this is a random UID, which must be refused and never stored."""
        if self.projection != UID_PROJECTION or len(self.value) != 4 or not self.is_iso14443a:
            return False
        return self.value[0] == RANDOM_ID

    def __repr__(self) -> str:
        return f"CardNumber({self.projection}, {len(self.value)} bytes, tail {self.tail})"


def card_key(site_key: bytes, number: CardNumber) -> bytes:
    """Return the 16-byte key under which journal, roster and hub know this card.

    BLAKE2b (RFC 7693), digest 16 bytes, keyed with the site's 32-byte key, over `projection:value`.
    """
    digest = hashlib.blake2b(number.projection.encode() + b":" + number.value, key=site_key, digest_size=CARD_KEY_BYTES)
    return digest.digest()


def lengths_of(technology: str) -> tuple[int, ...]:
    """Return how many bytes numbers of a technology have; empty means ISO 14443 type A."""
    return (4, 5) if technology == LOW_FREQUENCY else KINDS.get(technology, UID_LENGTHS)


def identify(raw: bytes, technology: str = "") -> CardNumber:
    """Return the identity for the bytes of a number.

    Args:
        raw: first byte first.
        technology: one of TECHNOLOGIES; empty is ISO 14443 type A. Four bytes of a 125 kHz tag keep the projection
            `uid`, under which they have always been known.

    Raises:
        BadCardNumber: numbers of this technology have another length or another first byte.
    """
    if technology in {"", ISO14443A}:
        return CardNumber.of_uid(Uid(raw))
    if len(raw) not in lengths_of(technology):
        known = ", ".join(map(str, lengths_of(technology)))
        raise BadCardNumber(f"A number of kind {technology} has {known} bytes, this one has {len(raw)}.")
    if technology == LOW_FREQUENCY:
        return CardNumber(EM4100 if len(raw) == 5 else UID_PROJECTION, raw, is_iso14443a=False)
    if technology == "iso15693" and raw[0] != _ISO15693_HEAD:
        raise BadCardNumber("An ISO 15693 UID starts with E0; if this one ends so, put 'hex-lsb|' before iso15693.")
    return CardNumber(technology, raw, is_iso14443a=False)
