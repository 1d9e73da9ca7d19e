"""The keyed card key: the only form of a card number that leaves a reader's process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gateway.cards.uid import RANDOM_ID, Uid

CARD_KEY_BYTES = 16
UID_PROJECTION = "uid"


@dataclass(frozen=True, slots=True)
class CardNumber:
    """A card number and the projection it is known in.

    Attributes:
        projection: `uid` for the whole UID, else the name of a lossy form such as `w26` (see cards.encodings).
        value: the number's bytes in the order the projection defines.
    """

    projection: str
    value: bytes

    @classmethod
    def of_uid(cls, uid: Uid) -> CardNumber:
        return cls(UID_PROJECTION, uid.raw)

    @property
    def tail(self) -> str:
        """Return the last two bytes as upper-case hex, the only part people may see."""
        return self.value[-2:].hex().upper()

    @property
    def is_random(self) -> bool:
        """Tell whether this is a random UID, which must be refused and never stored."""
        if self.projection != UID_PROJECTION or len(self.value) != 4:
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
