"""Authenticated sessions with a DESFire: authentication, then commands and answers protected against changes.

    ev1   AuthenticateAES: one session key; an initialisation vector runs through every command and answer, so that
          each CMAC covers all before it; encrypted content carries a CRC-32 inside
    ev2   AuthenticateEV2First: a key to encrypt and one to sign; transaction identifier and command counter stand in
          every MAC and every vector

Law of this file: content is given only after its check held; an answer that fails its check raises, and the session is
of no use afterwards. Sources: NXP AN12343 sections 7 and 8 and AN12196 sections 5 and 6 (EV2), MF3ICD81 (EV1).
"""

from __future__ import annotations

import hmac
import zlib
from typing import Protocol

from gateway.cards.desfire import (
    AUTHENTICATE_AES,
    AUTHENTICATE_EV2_FIRST,
    KEY_BYTES,
    Mode,
    aes_cmac,
    body_of,
    decrypt_chain,
    encrypt_chain,
    truncated_mac,
)
from gateway.errors import BadRecord

_MAC_BYTES = 8
_CRC_BYTES = 4
_STATUS_OK = b"\x00"
_WRONG_KEY = "The card does not know the key of this application; check key_file and system_id."
_CHANGED = "The card's answer is not what its session makes of it: changed on its way, or an older one sent again."
_WRONG_LENGTH = "The card's answer does not have the requested length."


class Session(Protocol):
    """Secure messaging after authentication; commands and answers strictly in turn."""

    def command(self, code: int, header: bytes, mode: Mode) -> bytes:
        """Return the bytes of a command that carries no content of its own."""
        ...

    def answer(self, response: bytes, mode: Mode, length: int | None = None) -> bytes:
        """Check a response and return its content.

        Args:
            length: of the content, as requested; None takes any, in `full` mode only where the content ends by itself.

        Raises:
            BadRecord: the card refuses, or the check does not hold.
        """
        ...


class Authentication(Protocol):
    """The reader's side of three passes."""

    def start(self, key_number: int) -> bytes: ...

    def answer(self, encrypted_card_random: bytes) -> bytes:
        """Take the card's challenge, return what is sent back.

        Raises:
            BadRecord: it is cut short.
        """
        ...

    def finish(self, encrypted_reply: bytes) -> Session:
        """Check that the card knows the key.

        Raises:
            BadRecord: it does not.
        """
        ...


def _rotated(data: bytes) -> bytes:
    return data[1:] + data[:1]


def _same(expected: bytes, got: bytes, complaint: str) -> None:
    if not hmac.compare_digest(expected, got):
        raise BadRecord(complaint)


def _of_length(content: bytes, length: int | None) -> bytes:
    if length is not None and len(content) != length:
        raise BadRecord(_WRONG_LENGTH)
    return content


def crc_32(data: bytes) -> bytes:
    """Return the CRC-32 of ISO/IEC 13239 without its final inversion, low byte first, as DESFire counts it."""
    return (zlib.crc32(data) ^ 0xFFFFFFFF).to_bytes(_CRC_BYTES, "little")


class Ev1Authentication:
    """AuthenticateAES.

    Args:
        reader_random: 16 bytes from a cryptographic source.
    """

    def __init__(self, key: bytes, reader_random: bytes) -> None:
        self._key, self._reader_random = key, reader_random
        self._card_random = self._vector = b""

    def start(self, key_number: int) -> bytes:
        return bytes([AUTHENTICATE_AES, key_number])

    def answer(self, encrypted_card_random: bytes) -> bytes:
        """Return E(RndA | RndB rotated left by a byte); the vector runs on from the card's challenge."""
        self._card_random = _of_length(decrypt_chain(self._key, encrypted_card_random), KEY_BYTES)
        sent = encrypt_chain(self._key, self._reader_random + _rotated(self._card_random), encrypted_card_random)
        self._vector = sent[-KEY_BYTES:]
        return sent

    def finish(self, encrypted_reply: bytes) -> Ev1Session:
        reply = decrypt_chain(self._key, encrypted_reply, self._vector)
        _same(_rotated(self._reader_random), reply, _WRONG_KEY)
        a, b = self._reader_random, self._card_random
        return Ev1Session(a[:4] + b[:4] + a[12:] + b[12:])


class Ev1Session:
    """EV1 messaging: every answer but an encrypted one ends in eight bytes of CMAC, whatever the file's mode.

    Args:
        vector: where the chain stands, zero after authentication.
    """

    def __init__(self, key: bytes, vector: bytes = bytes(KEY_BYTES)) -> None:
        self._key = key
        self._vector = vector

    def __repr__(self) -> str:
        return "Ev1Session(key not shown)"

    def command(self, code: int, header: bytes, mode: Mode) -> bytes:  # noqa: ARG002  # a reading command looks alike
        message = bytes([code]) + header
        self._vector = self._cmac(message)
        return message

    def answer(self, response: bytes, mode: Mode, length: int | None = None) -> bytes:
        body = body_of(response)
        if mode is Mode.FULL:
            return self._decrypted(body, length)
        content, mac = body[:-_MAC_BYTES], body[-_MAC_BYTES:]
        vector = self._cmac(content + _STATUS_OK)
        _same(vector[:_MAC_BYTES], mac, _CHANGED)
        self._vector = vector
        return _of_length(content, length)

    def _decrypted(self, body: bytes, length: int | None) -> bytes:
        plain = decrypt_chain(self._key, body, self._vector)
        self._vector = body[-KEY_BYTES:]
        # content | CRC-32 of content and status | zeros to the end of the block
        if length is None or len(plain) - length - _CRC_BYTES not in range(KEY_BYTES):
            raise BadRecord(_WRONG_LENGTH)
        content = plain[:length]
        rest = crc_32(content + _STATUS_OK).ljust(len(plain) - length, b"\0")
        _same(rest, plain[length:], _CHANGED)
        return content

    def _cmac(self, message: bytes) -> bytes:
        # A CMAC that begins with a vector is one over a block more: the one whose encryption is that vector.
        return aes_cmac(self._key, decrypt_chain(self._key, self._vector) + message)


class Ev2First:
    """AuthenticateEV2First, without capabilities of ours.

    Args:
        reader_random: 16 bytes from a cryptographic source.
    """

    def __init__(self, key: bytes, reader_random: bytes) -> None:
        self._key, self._reader_random = key, reader_random
        self._card_random = b""

    def start(self, key_number: int) -> bytes:
        return bytes([AUTHENTICATE_EV2_FIRST, key_number, 0x00])

    def answer(self, encrypted_card_random: bytes) -> bytes:
        """Return E(RndA | RndB rotated left by a byte)."""
        self._card_random = _of_length(decrypt_chain(self._key, encrypted_card_random), KEY_BYTES)
        return encrypt_chain(self._key, self._reader_random + _rotated(self._card_random))

    def finish(self, encrypted_reply: bytes) -> Ev2Session:
        # TI, 4 | RndA rotated left, 16 | capabilities of card and reader, 6 each
        reply = _of_length(decrypt_chain(self._key, encrypted_reply), 2 * KEY_BYTES)
        _same(_rotated(self._reader_random), reply[4:20], _WRONG_KEY)
        encryption_key, mac_key = session_keys(self._key, self._reader_random, self._card_random)
        return Ev2Session(encryption_key, mac_key, reply[:4])


def session_keys(key: bytes, reader_random: bytes, card_random: bytes) -> tuple[bytes, bytes]:
    """Return the session's encryption and MAC keys (AN12343 section 7.1.3, SV1 and SV2)."""
    mixed = bytes(a ^ b for a, b in zip(reader_random[2:8], card_random[:6], strict=True))
    vector = b"\x00\x01\x00\x80" + reader_random[:2] + mixed + card_random[6:] + reader_random[8:]
    return aes_cmac(key, b"\xa5\x5a" + vector), aes_cmac(key, b"\x5a\xa5" + vector)


class Ev2Session:
    """EV2 messaging; the counter goes up with every command, whatever its mode.

    Attributes:
        transaction: the card's identifier of this session, four bytes.
    """

    def __init__(self, encryption_key: bytes, mac_key: bytes, transaction: bytes, counter: int = 0) -> None:
        self.encryption_key, self.mac_key = encryption_key, mac_key
        self._counter = counter
        self.transaction = transaction

    def __repr__(self) -> str:
        return "Ev2Session(keys not shown)"

    def command(self, code: int, header: bytes, mode: Mode) -> bytes:
        message = bytes([code]) + header
        return message if mode is Mode.PLAIN else message + self._mac(code, header)

    def answer(self, response: bytes, mode: Mode, length: int | None = None) -> bytes:
        self._counter += 1
        body = body_of(response)
        if mode is Mode.PLAIN:
            return _of_length(body, length)
        content, mac = body[:-_MAC_BYTES], body[-_MAC_BYTES:]
        _same(self._mac(response[0], content), mac, _CHANGED)
        return _of_length(self._decrypted(content) if mode is Mode.FULL else content, length)

    def _mac(self, code: int, data: bytes) -> bytes:
        message = bytes([code]) + self._counter.to_bytes(2, "little") + self.transaction + data
        return truncated_mac(aes_cmac(self.mac_key, message))

    def _decrypted(self, content: bytes) -> bytes:
        start = b"\x5a\xa5" + self.transaction + self._counter.to_bytes(2, "little") + bytes(8)
        plain = decrypt_chain(self.encryption_key, content, encrypt_chain(self.encryption_key, start))
        # ISO/IEC 9797-1 padding method 2: 80, then zeros, at most one block of it.
        end = plain.rstrip(b"\0")
        if end[-1:] != b"\x80" or len(plain) - len(end) >= KEY_BYTES:
            raise BadRecord(_WRONG_LENGTH)
        return end[:-1]


AUTHENTICATIONS: dict[str, type[Ev1Authentication | Ev2First]] = {"ev1": Ev1Authentication, "ev2": Ev2First}
