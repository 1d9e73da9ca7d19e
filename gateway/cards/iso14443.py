"""ISO/IEC 14443-3 type A: ATQA, SAK, check bytes and the cascade.

Bytes are in the order they are sent; CRC_A is sent low byte first.
"""

from __future__ import annotations

from gateway.cards.uid import UID_LENGTHS
from gateway.errors import BadCardNumber

REQA = 0x26
WUPA = 0x52
HLTA = b"\x50\x00"
CASCADE_TAG = 0x88
SEL_CODES = (0x93, 0x95, 0x97)
SAK_UID_INCOMPLETE = 0x04
SAK_ISO14443_4 = 0x20
CRC_A_PRESET = 0x6363

UNKNOWN_TYPE = "unknown"

# NXP AN10833, table "SAK coding"; the cascade bit is never set in a final SAK.
_TYPES: dict[int, str] = {
    0x00: "ntag",
    0x08: "mifare-classic-1k",
    0x09: "mifare-mini",
    0x10: "mifare-plus-2k",
    0x11: "mifare-plus-4k",
    0x18: "mifare-classic-4k",
    0x20: "desfire",
    0x28: "smartmx-classic-1k",
    0x38: "smartmx-classic-4k",
    0x88: "mifare-classic-1k",
}
_ATQA_DESFIRE = bytes.fromhex("4403")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ 0x8408 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc_a(data: bytes, preset: int = CRC_A_PRESET) -> bytes:
    """Return the two CRC_A bytes of a frame (ISO/IEC 14443-3, annex B), low byte first as they are sent."""
    crc = preset
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def with_crc(data: bytes) -> bytes:
    """Append CRC_A to a frame."""
    return data + crc_a(data)


def has_good_crc(frame: bytes) -> bool:
    """Return whether a received frame ends in its own CRC_A."""
    return len(frame) > 2 and crc_a(frame[:-2]) == frame[-2:]


def bcc(data: bytes) -> int:
    """Return the check byte of one cascade level: the exclusive or of its four bytes."""
    check = 0
    for byte in data:
        check ^= byte
    return check


def card_type(atqa: bytes, sak: int) -> str:
    """Name a card from its answers, `unknown` when the standard leaves it open.

    A SAK names a family, not a chip: 00 covers Ultralight and NTAG, 20 covers every ISO 14443-4 card, of which only
    ATQA 44 03 is taken for a DESFire.
    """
    if sak == SAK_ISO14443_4 and atqa != _ATQA_DESFIRE:
        return "iso14443-4"
    return _TYPES.get(sak, UNKNOWN_TYPE)


def cascade_levels(uid: bytes) -> tuple[bytes, ...]:
    """Cut a UID of 4, 7 or 10 bytes into what each cascade level carries: four bytes, of them the tag 88 first.

    Raises:
        BadCardNumber: the UID has another length.
    """
    if len(uid) not in UID_LENGTHS:
        raise BadCardNumber(f"A UID has 4, 7 or 10 bytes, this one has {len(uid)}.")
    levels = []
    rest = uid
    while len(rest) > 4:
        levels.append(bytes([CASCADE_TAG]) + rest[:3])
        rest = rest[3:]
    return (*levels, rest)
