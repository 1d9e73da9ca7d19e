"""DESFire EV1 to EV3: commands, what a card answers to them, file settings and key diversification.

Sources: NXP MF3ICD81 functional specification as published in AN12343 and the NT4H2421Gx data sheet (commands, status
codes, file settings), AN10922 section 2.2 (diversification), RFC 4493 (CMAC). Secure messaging: desfire_session.py.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from gateway.errors import BadRecord

KEY_BYTES = 16
_DIVERSIFIED_AES_128 = b"\x01"
_MAX_INPUT = 31


def aes_cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def truncated_mac(mac: bytes) -> bytes:
    """Return the eight odd-numbered bytes of a CMAC, as EV2 messaging and NTAG 424 send it."""
    return mac[1::2]


def diversify(master: bytes, uid: bytes, aid: bytes, system: bytes) -> bytes:
    """Return one card's AES-128 key (AN10922): CMAC over 01, UID, application and system identifier.

    Raises:
        BadRecord: the input is longer than 31 bytes.
    """
    message = uid + aid + system
    if not 0 < len(message) <= _MAX_INPUT:
        raise BadRecord("The diversification input must have 1 to 31 bytes.")
    # The CMAC is taken over 32 bytes always: shorter input is padded to two blocks and finished with the second subkey.
    data = _DIVERSIFIED_AES_128 + message
    if len(data) == 2 * KEY_BYTES:
        return aes_cmac(master, data)
    padded = data + b"\x80" + bytes(2 * KEY_BYTES - len(data) - 1)
    return _cmac_with_second_subkey(master, padded)


def _cmac_with_second_subkey(key: bytes, padded: bytes) -> bytes:
    subkey = _double(_double(encrypt_chain(key, bytes(KEY_BYTES))))
    last = bytes(a ^ b for a, b in zip(padded[KEY_BYTES:], subkey, strict=True))
    return encrypt_chain(key, padded[:KEY_BYTES] + last)[-KEY_BYTES:]


def _double(block: bytes) -> bytes:
    value = int.from_bytes(block, "big") << 1
    if value >> 128:
        value = value & (1 << 128) - 1 ^ 0x87
    return value.to_bytes(KEY_BYTES, "big")


def encrypt_chain(key: bytes, data: bytes, vector: bytes = bytes(KEY_BYTES)) -> bytes:
    """Encrypt whole blocks with AES in CBC mode."""
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def decrypt_chain(key: bytes, data: bytes, vector: bytes = bytes(KEY_BYTES)) -> bytes:
    """Decrypt AES in CBC mode.

    Raises:
        BadRecord: not whole blocks, or none.
    """
    if not data or len(data) % KEY_BYTES:
        raise BadRecord("The card's encrypted answer is cut short; hold the card a moment longer.")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


OK, MORE = 0x00, 0xAF
_SELECT, _CONTINUE = 0x5A, 0xAF
AUTHENTICATE_AES, AUTHENTICATE_EV2_FIRST = 0xAA, 0x71
GET_FILE_SETTINGS, READ_DATA, GET_CARD_UID = 0xF5, 0xBD, 0x51

_REFUSALS = {
    0x1C: "it does not know this command; check secure_messaging against its generation",
    0x1E: "it finds the command damaged; check secure_messaging and communication",
    0x40: "it has no key of this number; check key_number",
    0x7E: "the command has not the length it expects; check communication against the file's own setting",
    0x9D: "this key may not do that; check key_number and the file's rights",
    0xA0: "it has no such application; check aid",
    0xAE: "it takes another key, or this key may not do that; check key_file and key_number",
    0xBE: "the file is shorter than offset and length ask for",
    0xF0: "it has no such file in this application; check file",
}


def select_application(aid: int) -> bytes:
    return bytes([_SELECT]) + aid.to_bytes(3, "little")


def continue_with(data: bytes) -> bytes:
    return bytes([_CONTINUE]) + data


def place_in_file(file: int, offset: int, length: int) -> bytes:
    """Return what follows READ_DATA: file, then offset and length of three bytes each, low byte first."""
    return bytes([file]) + offset.to_bytes(3, "little") + length.to_bytes(3, "little")


def body_of(response: bytes, expected: int = OK) -> bytes:
    """Return what stands after the status byte.

    Raises:
        BadRecord: the card's status is another one; the sentence says which setting to look at.
    """
    if not response:
        raise BadRecord("The card's answer is empty; hold the card a moment longer.")
    if response[0] != expected:
        why = _REFUSALS.get(response[0], "its maker's documents tell why")
        raise BadRecord(f"The card refuses with status {response[0]:02X}: {why}.")
    return response[1:]


class Mode(enum.IntEnum):
    """How a file's content travels, as its settings say."""

    PLAIN = 0
    MAC = 1
    FULL = 3


_DATA_FILES = frozenset({0x00, 0x01})  # standard, backup
_EVERYBODY = 0x0E


@dataclass(frozen=True, slots=True)
class FileSettings:
    """The answer to GET_FILE_SETTINGS of a data file.

    Attributes:
        readers: the two key numbers that may read it, 14 for everybody, 15 for nobody.
        size: bytes in the file.
    """

    mode: Mode
    readers: tuple[int, int]
    size: int

    @classmethod
    def parse(cls, body: bytes) -> FileSettings:
        """Read type, communication, rights (two bytes, low first) and size (three bytes, low first).

        Raises:
            BadRecord: it is cut short, or no file of plain data.
        """
        if len(body) < 7:
            raise BadRecord("The card's file settings are cut short; hold the card a moment longer.")
        if body[0] not in _DATA_FILES:
            raise BadRecord("The card's file holds a value or records, not plain data; check file.")
        # The higher bits of the second byte belong to later generations; 2 is plain as well.
        mode = {1: Mode.MAC, 3: Mode.FULL}.get(body[1] & 0x03, Mode.PLAIN)
        # low byte: read and write | change; high byte: read | write
        return cls(mode, (body[3] >> 4, body[2] >> 4), int.from_bytes(body[4:7], "little"))

    def mode_for(self, key_number: int) -> Mode:
        """Return how the content is protected for a session under this key.

        Raises:
            BadRecord: this key may not read the file.
        """
        if key_number in self.readers:
            return self.mode
        if _EVERYBODY in self.readers:
            return Mode.PLAIN
        raise BadRecord("This key may not read the card's file; check key_number.")
