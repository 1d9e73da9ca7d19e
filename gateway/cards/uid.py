"""The UID of an ISO/IEC 14443 type A card."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway.errors import BadCardNumber

UID_LENGTHS = (4, 7, 10)
_CASCADE_TAG = 0x88
RANDOM_ID = 0x08


class UidKind(enum.Enum):
    """Kinds of UIDs (NXP AN10927, section 2)."""

    UNIQUE = "unique"
    NOT_UNIQUE = "not-unique"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Uid:
    """A UID as the card sends it: 4, 7 or 10 bytes, first byte first, without cascade tags and BCC.

    Raises:
        BadCardNumber: the length is another one, or a 4-byte UID starts with the cascade tag 0x88.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) not in UID_LENGTHS:
            raise BadCardNumber(f"A UID has 4, 7 or 10 bytes, this one has {len(self.raw)}.")
        if len(self.raw) == 4 and self.raw[0] == _CASCADE_TAG:
            raise BadCardNumber("A 4-byte UID cannot start with the cascade tag 88; the reader sent a cut 7-byte UID.")

    @property
    def kind(self) -> UidKind:
        """Return whether this UID may identify a card.

        A 4-byte UID starting with 08 is random at every field entry and must never be stored; other 4-byte values have
        been issued more than once since 2010.
        """
        if len(self.raw) != 4:
            return UidKind.UNIQUE
        return UidKind.RANDOM if self.raw[0] == RANDOM_ID else UidKind.NOT_UNIQUE

    @property
    def tail(self) -> str:
        """Return the last two bytes as four upper-case hex digits, the only part people may see."""
        return self.raw[-2:].hex().upper()

    def __repr__(self) -> str:
        # A repr ends up in logs and tracebacks; a card number must not.
        return f"Uid({len(self.raw)} bytes, tail {self.tail})"
