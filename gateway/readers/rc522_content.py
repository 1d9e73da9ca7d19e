"""A card's number from its memory instead of its UID: a MIFARE Classic sector or NTAG pages, read by an RC522."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.cards.identity import CardNumber
from gateway.cards.mifare_classic import (
    AUTH_A,
    AUTH_B,
    BLOCK_BYTES,
    KEY_BYTES,
    NUMBER_FORMS,
    first_block,
    number_in,
)
from gateway.errors import BadCardNumber, ConfigError
from gateway.readers.rc522_chip import Rc522Chip

CREDENTIALS = ("uid", "classic-sector", "ntag-page")
_TRIES = 3
_SAK_CLASSIC = 0x08


@dataclass(frozen=True, slots=True)
class Place:
    """Where the number stands.

    Attributes:
        block: of the sector, or the page of an NTAG.
        key: six bytes, empty for an NTAG.
    """

    credential: str
    sector: int
    block: int
    offset: int
    length: int
    form: str
    key_type: str
    key: bytes

    def problems(self) -> list[str]:
        found = []
        if self.credential not in CREDENTIALS:
            found.append(f"credential: must be one of {', '.join(CREDENTIALS)}")
        if self.form not in NUMBER_FORMS:
            found.append(f"number_form: must be one of {', '.join(NUMBER_FORMS)}")
        if self.key_type not in {"A", "B"}:
            found.append("key_type: must be A or B")
        if not 0 <= self.sector <= 39:
            found.append("sector: must be from 0 to 39")
        if not 0 <= self.block <= 255:
            found.append("block: must be from 0 to 255")
        if self.offset < 0 or not 0 < self.length <= BLOCK_BYTES - self.offset:
            found.append("length: offset and length must stay within 16 bytes")
        return found


def read_key(path: str) -> bytes:
    """Read a sector key, 12 hex digits.

    Raises:
        ConfigError: the file is missing or holds something else; the message does not repeat it.
    """
    try:
        key = bytes.fromhex(Path(path).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError([f"key_file: {path} must hold 12 hex digits"])
    return key


def read_number(chip: Rc522Chip, place: Place, uid: bytes, sak: int) -> CardNumber:
    """Read the number of the card that is selected now; afterwards it is halted or out of the field.

    Raises:
        BadCardNumber: it is another kind of card, does not know the key or holds no number there.
    """
    is_classic = bool(sak & _SAK_CLASSIC)
    if is_classic != (place.credential == "classic-sector"):
        raise BadCardNumber("The card is of another kind than this reader's credential setting asks for.")
    for attempt in range(_TRIES):
        # A refused key or a lost frame throws the card out of its session, so it is woken and selected again.
        if attempt and (chip.wake_up() is None or not chip.select_known(uid)):
            continue
        block = _read(chip, place, uid)
        if block is not None:
            return number_in(block, place.form, place.offset, place.length)
    raise BadCardNumber("The card does not give its number: wrong key or sector, or taken away too soon.")


def _read(chip: Rc522Chip, place: Place, uid: bytes) -> bytes | None:
    if place.credential == "ntag-page":
        return chip.read_block(place.block)
    number = first_block(place.sector) + place.block
    kind = AUTH_A if place.key_type == "A" else AUTH_B
    try:
        if not chip.authenticate(kind, number, place.key, uid[-4:]):
            return None
        return chip.read_block(number)
    finally:
        chip.end_session()
