"""MIFARE Classic: its memory layout, and how a number is written in a block.

Sources: NXP MF1S50YYX data sheet section 8.6 and 8.7, AN10787 (MAD). The cipher has been broken since 2008: a number in
a sector is an identity with a thin lid on it, never a proof.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.cards.encodings import NUMBER
from gateway.cards.identity import CardNumber
from gateway.errors import BadCardNumber, BadRecord

BLOCK_BYTES = 16
KEY_BYTES = 6
AUTH_A, AUTH_B, READ = 0x60, 0x61, 0x30
FACTORY_KEY = b"\xff" * 6
MAD_KEY = bytes.fromhex("A0A1A2A3A4A5")
_SMALL_SECTORS = 32


def first_block(sector: int) -> int:
    """Return the first block of a sector: four blocks each, sixteen from sector 32 on (4K)."""
    if sector < _SMALL_SECTORS:
        return sector * 4
    return _SMALL_SECTORS * 4 + (sector - _SMALL_SECTORS) * 16


def trailer_block(sector: int) -> int:
    return first_block(sector) + (3 if sector < _SMALL_SECTORS else 15)


def access_bits(trailer: bytes) -> tuple[int, int, int, int]:
    """Return C1 C2 C3 (as a number 0..7, C1 highest) of the four block groups of a sector trailer.

    Raises:
        BadRecord: the bits and their stored inverses do not agree; the sector is damaged or no trailer.
    """
    # byte 6: ~C2 ~C1, byte 7: C1 ~C3, byte 8: C3 C2; four bits each, block 3 highest
    low, middle, high = trailer[6:9]
    c1, c2, c3 = middle >> 4, high & 0x0F, high >> 4
    if low & 0x0F != c1 ^ 0x0F or low >> 4 != c2 ^ 0x0F or middle & 0x0F != c3 ^ 0x0F:
        raise BadRecord("The access bits of the sector and their inverses do not agree.")
    groups = [(c1 >> place & 1) << 2 | (c2 >> place & 1) << 1 | c3 >> place & 1 for place in range(4)]
    return groups[0], groups[1], groups[2], groups[3]


def mad_crc(data: bytes) -> int:
    """Return the CRC-8 of a MIFARE application directory: polynomial 1D, preset C7."""
    crc = 0xC7
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x1D if crc & 0x80 else crc << 1) & 0xFF
    return crc


def sectors_of(directory: bytes, aid: int) -> tuple[int, ...]:
    """Return the sectors of an application in blocks 1 and 2 of sector 0.

    Args:
        directory: 32 bytes: CRC, info byte, then two bytes a sector from sector 1, low byte first.

    Raises:
        BadRecord: the directory's CRC is wrong.
    """
    if len(directory) != 2 * BLOCK_BYTES or mad_crc(directory[1:]) != directory[0]:
        raise BadRecord("The application directory of the card is damaged or absent.")
    return tuple(
        sector for sector in range(1, 16) if int.from_bytes(directory[2 * sector : 2 * sector + 2], "little") == aid
    )


def _ascii(data: bytes) -> str:
    return data.decode("ascii").strip(" \0")


def _bcd(data: bytes) -> str:
    return data.hex().rstrip("f")


NUMBER_FORMS: dict[str, Callable[[bytes], str]] = {
    "ascii": _ascii,
    "bcd": _bcd,
    "int-le": lambda data: str(int.from_bytes(data, "little")),
    "int-be": lambda data: str(int.from_bytes(data, "big")),
}


def number_in(block: bytes, form: str, offset: int, length: int) -> CardNumber:
    """Read a decimal number from a block.

    Args:
        form: a key of NUMBER_FORMS; BCD ends at its padding F.

    Raises:
        BadCardNumber: the bytes are no number of this form.
    """
    data = block[offset : offset + length]
    try:
        text = NUMBER_FORMS[form](data)
    except UnicodeDecodeError:
        text = ""
    if len(data) != length or not text.isascii() or not text.isdigit() or not int(text):
        raise BadCardNumber(f"The card holds no number of the form {form!r} where it should; check sector and offset.")
    return CardNumber(NUMBER, str(int(text)).encode())
