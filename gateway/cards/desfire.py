"""DESFire EV1 to EV3: key diversification and the AES steps of EV2 authentication.

Sources: NXP AN10922 section 2.2 (diversification), AN12196 sections 5.6 and 6 (session keys, SUN), RFC 4493 (CMAC).
"""

from __future__ import annotations

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
    """Give the eight odd-numbered bytes of a CMAC, as DESFire and NTAG 424 send it."""
    return mac[1::2]


def diversify(master: bytes, uid: bytes, aid: bytes, system: bytes) -> bytes:
    """Give one card's AES-128 key (AN10922): CMAC over 01, UID, application and system identifier.

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
    subkey = _double(_double(_encrypt(key, bytes(KEY_BYTES))))
    last = bytes(a ^ b for a, b in zip(padded[KEY_BYTES:], subkey, strict=True))
    return _encrypt_chain(key, padded[:KEY_BYTES] + last)[-KEY_BYTES:]


def _double(block: bytes) -> bytes:
    value = int.from_bytes(block, "big") << 1
    if value >> 128:
        value = value & (1 << 128) - 1 ^ 0x87
    return value.to_bytes(KEY_BYTES, "big")


def _encrypt(key: bytes, block: bytes) -> bytes:
    # One block of a key derivation, not a message.
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # one block, as AN10922 builds CMAC from it
    return encryptor.update(block) + encryptor.finalize()


def _encrypt_chain(key: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(KEY_BYTES))).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _decrypt_chain(key: bytes, data: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(KEY_BYTES))).decryptor()
    return decryptor.update(data) + decryptor.finalize()


OK, MORE, AUTHENTICATION_ERROR = 0x00, 0xAF, 0xAE
_SELECT, _EV2_FIRST, _CONTINUE, _READ_DATA = 0x5A, 0x71, 0xAF, 0xBD


def select_application(aid: int) -> bytes:
    return bytes([_SELECT]) + aid.to_bytes(3, "little")


def authenticate_first(key_number: int) -> bytes:
    # No capabilities of ours follow.
    return bytes([_EV2_FIRST, key_number, 0x00])


def continue_with(data: bytes) -> bytes:
    return bytes([_CONTINUE]) + data


def read_data(file: int, offset: int, length: int) -> bytes:
    return bytes([_READ_DATA, file]) + offset.to_bytes(3, "little") + length.to_bytes(3, "little")


def body_of(response: bytes, expected: int = OK) -> bytes:
    """Give what stands behind the status byte.

    Raises:
        BadRecord: the card's status is another one.
    """
    if not response or response[0] != expected:
        status = f"{response[0]:02X}" if response else "nothing"
        raise BadRecord(f"The card answers {status}: no such application, file or right, or another key.")
    return response[1:]


@dataclass(frozen=True, slots=True)
class Session:
    """What both sides know after EV2 authentication."""

    encryption_key: bytes
    mac_key: bytes
    transaction: bytes

    def __repr__(self) -> str:
        return "Session(keys not shown)"


class Ev2First:
    """AuthenticateEV2First as the reader's side, step by step; the caller brings the randomness and the wire.

    Args:
        reader_random: 16 bytes from a cryptographic source.
    """

    def __init__(self, key: bytes, reader_random: bytes) -> None:
        self._key = key
        self._reader_random = reader_random
        self._card_random = b""

    def answer(self, encrypted_card_random: bytes) -> bytes:
        """Take the card's first answer, give what is sent back: E(RndA | RndB rotated left by a byte)."""
        self._card_random = _decrypt_chain(self._key, encrypted_card_random)
        rotated = self._card_random[1:] + self._card_random[:1]
        return _encrypt_chain(self._key, self._reader_random + rotated)

    def finish(self, encrypted_reply: bytes) -> Session:
        """Check the card's last answer and derive the session.

        Raises:
            BadRecord: the card does not know the key.
        """
        # TI, 4 | RndA rotated left, 16 | capabilities of card and reader, 6 each
        reply = _decrypt_chain(self._key, encrypted_reply)
        if reply[4:20] != self._reader_random[1:] + self._reader_random[:1]:
            raise BadRecord("The card does not know the key of this application.")
        encryption_key, mac_key = session_keys(self._key, self._reader_random, self._card_random)
        return Session(encryption_key, mac_key, reply[:4])


def session_keys(key: bytes, reader_random: bytes, card_random: bytes) -> tuple[bytes, bytes]:
    """Give the session's encryption and MAC keys (AN12196 section 6.5)."""
    mixed = bytes(a ^ b for a, b in zip(reader_random[2:8], card_random[:6], strict=True))
    vector = b"\x00\x01\x00\x80" + reader_random[:2] + mixed + card_random[6:] + reader_random[8:]
    return aes_cmac(key, b"\xa5\x5a" + vector), aes_cmac(key, b"\x5a\xa5" + vector)
