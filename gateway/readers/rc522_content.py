"""A card's number from its memory instead of its UID: a MIFARE Classic sector, NTAG pages or a DESFire file.

DESFire files are read in plain communication mode, after AES authentication when there is a key.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from gateway.cards import desfire
from gateway.cards.identity import CardNumber
from gateway.cards.iso14443 import SAK_ISO14443_4
from gateway.cards.mifare_classic import (
    AUTH_A,
    AUTH_B,
    BLOCK_BYTES,
    KEY_BYTES,
    NUMBER_FORMS,
    first_block,
    number_in,
)
from gateway.errors import BadCardNumber, BadMessage, BadRecord, ConfigError
from gateway.protocols import iso_dep
from gateway.protocols.mfrc522 import FIFO_BYTES
from gateway.readers.rc522_chip import Rc522Chip

CREDENTIALS = ("uid", "classic-sector", "ntag-page", "desfire-file")
_TRIES = 3
_ATS_BYTES = 22
_ATS_WAITING_US = 5000
_LONGEST_WAITING_US = 80_000  # a poll must come back soon, whatever the card wishes
_SAK_CLASSIC = 0x08


@dataclass(frozen=True, slots=True)
class Place:
    """Where the number stands.

    Attributes:
        block: of the sector, or the page of an NTAG.
        key: six bytes for a sector, 16 or none for a file, none for an NTAG.
        system: system identifier of AN10922 when each card has a key of its own, None when all share one.
    """

    credential: str
    sector: int
    block: int
    offset: int
    length: int
    form: str
    key_type: str
    key: bytes
    aid: int = 0
    file: int = 0
    key_number: int = 0
    system: bytes | None = None

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
        if not 0 <= self.file <= 31 or not 0 <= self.key_number <= 13:
            found.append("file: file must be from 0 to 31, key_number from 0 to 13")
        if not 0 <= self.aid <= 0xFFFFFF:
            found.append("aid: must be six hex digits")
        if self.offset < 0 or not 0 < self.length <= BLOCK_BYTES - self.offset:
            found.append("length: offset and length must stay within 16 bytes")
        return found


def read_key(path: str, key_bytes: int = KEY_BYTES) -> bytes:
    """Read a key, two hex digits a byte.

    Raises:
        ConfigError: the file is missing or holds something else; the message does not repeat it.
    """
    try:
        key = bytes.fromhex(Path(path).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != key_bytes:
        raise ConfigError([f"key_file: {path} must hold {2 * key_bytes} hex digits"])
    return key


def read_number(chip: Rc522Chip, place: Place, uid: bytes, sak: int) -> CardNumber:
    """Read the number of the card that is selected now; afterwards it is halted or out of the field.

    Raises:
        BadCardNumber: it is another kind of card, does not know the key or holds no number there.
    """
    kind = "classic-sector" if sak & _SAK_CLASSIC else "desfire-file" if sak & SAK_ISO14443_4 else "ntag-page"
    if kind != place.credential:
        raise BadCardNumber("The card is of another kind than this reader's credential setting asks for.")
    for attempt in range(_TRIES):
        # A refused key or a lost frame throws the card out of its session, so it is woken and selected again.
        if attempt and (chip.wake_up() is None or not chip.select_known(uid)):
            continue
        block = _read_file(chip, place, uid) if kind == "desfire-file" else _read(chip, place, uid)
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


def _read_file(chip: Rc522Chip, place: Place, uid: bytes) -> bytes | None:
    try:
        raw = chip.exchange_frame(iso_dep.RATS, _ATS_BYTES, _ATS_WAITING_US)
        if raw is None:
            return None
        session = _Blocks(chip, iso_dep.parse_ats(raw))
        desfire.body_of(session.command(desfire.select_application(place.aid)))
        if place.key:
            _authenticate(session, place, uid)
        read = desfire.read_data(place.file, place.offset, place.length)
        # number_in cuts at the offset again.
        return bytes(place.offset) + desfire.body_of(session.command(read))
    except BadMessage:
        return None
    except BadRecord as error:
        raise BadCardNumber(str(error)) from None
    finally:
        chip.exchange_frame(iso_dep.DESELECT, 3, _ATS_WAITING_US)
        chip.end_session()


def _authenticate(session: _Blocks, place: Place, uid: bytes) -> None:
    key = place.key
    if place.system is not None:
        key = desfire.diversify(key, uid, place.aid.to_bytes(3, "big"), place.system)
    steps = desfire.Ev2First(key, secrets.token_bytes(desfire.KEY_BYTES))
    challenge = desfire.body_of(session.command(desfire.authenticate_first(place.key_number)), desfire.MORE)
    steps.finish(desfire.body_of(session.command(desfire.continue_with(steps.answer(challenge)))))


class _Blocks:
    """ISO/IEC 14443-4 commands to the card that is selected now."""

    def __init__(self, chip: Rc522Chip, ats: iso_dep.Ats) -> None:
        self._chip = chip
        self._ats = ats
        self._block_number = 0

    def command(self, command: bytes) -> bytes:
        exchange = iso_dep.Exchange(command, self._ats, self._block_number)
        while exchange.response is None:
            waiting_us = min(self._ats.waiting_us * exchange.extension, _LONGEST_WAITING_US)
            exchange.feed(self._chip.exchange_frame(exchange.frame, FIFO_BYTES, waiting_us))
        self._block_number = exchange.block_number
        return exchange.response
