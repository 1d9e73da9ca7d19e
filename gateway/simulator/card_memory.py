"""Cards with something in them: MIFARE Classic blocks behind keys, NTAG pages, DESFire files.

The Classic's cipher is not modelled: what it protects is, so a frame of the wrong kind, encrypted or plain, throws the
card out of its session.
"""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.cards.iso14443 import has_good_crc, with_crc
from gateway.cards.mifare_classic import AUTH_A, AUTH_B, BLOCK_BYTES, FACTORY_KEY, READ, first_block, trailer_block
from gateway.cards.ntag import GET_VERSION, PAGE_BYTES, READ_SIGNATURE
from gateway.protocols.iso_dep import DESELECT
from gateway.simulator.iso14443_cards import (
    CLASSIC_1K,
    CLASSIC_1K_7,
    DESFIRE,
    NTAG,
    Card,
    RadioFrame,
    State,
    radio_frame,
)

_NAK = (0x00, 4)


class ClassicCard(Card):
    """A MIFARE Classic 1K with transport keys; change `blocks` and `keys` before it enters a field."""

    def __init__(self, uid: bytes) -> None:
        super().__init__(CLASSIC_1K if len(uid) == 4 else CLASSIC_1K_7, uid)
        self.blocks = [bytearray(BLOCK_BYTES) for _ in range(64)]
        self.keys: dict[tuple[int, int], bytes] = {}
        self._sector = -1

    def power_on(self) -> None:
        super().power_on()
        self._sector = -1
        self.encrypted = False

    def set_key(self, kind: int, sector: int, key: bytes) -> None:
        self.keys[kind, sector] = key

    def write(self, sector: int, block: int, data: bytes) -> None:
        """Fill a block, as the issuer of the card did."""
        self.blocks[first_block(sector) + block][: len(data)] = data

    def authenticate(self, kind: int, block: int, key: bytes, uid_part: bytes) -> bool:
        """Answer MFAuthent; the chip sends the last four UID bytes with it."""
        sector = block // 4
        good = key == self.keys.get((kind, sector), FACTORY_KEY) and uid_part == self.uid[-4:]
        self._sector, self.encrypted = (sector, True) if good else (-1, False)
        if not good:
            self.fall_back()
        return good

    def challenge(self) -> bytes:
        """Give the card's first nonce of an authentication."""
        return secrets.token_bytes(4)

    def command(self, data: bytes) -> RadioFrame | None:
        if not has_good_crc(data) or len(data) != 4:
            return None
        if data[0] in {AUTH_A, AUTH_B} and not self.encrypted:
            return radio_frame(self.challenge())
        if data[0] != READ:
            return None
        block = data[1]
        if block // 4 != self._sector:
            return _NAK
        content = bytearray(self.blocks[block])
        if block == trailer_block(self._sector):
            content[:6] = bytes(6)  # key A never reads back
        return radio_frame(with_crc(bytes(content)))


class NtagCard(Card):
    """An NTAG213."""

    def __init__(self, uid: bytes, signature: bytes = bytes(32)) -> None:
        super().__init__(NTAG, uid)
        self.pages = bytearray(45 * PAGE_BYTES)
        self.signature = signature

    def command(self, data: bytes) -> RadioFrame | None:
        if not has_good_crc(data):
            return None
        body = data[:-2]
        if body[:1] == bytes([READ]) and len(body) == 2 and body[1] < len(self.pages) // PAGE_BYTES:
            start = body[1] * PAGE_BYTES
            wrapped = bytes(self.pages) * 2
            return radio_frame(with_crc(wrapped[start : start + 16]))
        if body == bytes([GET_VERSION]):
            return radio_frame(with_crc(bytes.fromhex("0004040201000F03")))
        if body == bytes([READ_SIGNATURE, 0]):
            return radio_frame(with_crc(self.signature))
        return None


class DesfireCard(Card):
    """A DESFire with one application: ISO 14443-4 blocks, AuthenticateEV2First with AES, plain files.

    Attributes:
        files: number to content; reading needs the key when there is one.
        thinks: how many times it asks for more time before each answer.
    """

    _ATS = bytes.fromhex("067577810280")
    _CHUNK = 58

    def __init__(self, uid: bytes, aid: int, key: bytes | None = None) -> None:
        super().__init__(DESFIRE, uid)
        self.aid = aid
        self.key = key
        self.files: dict[int, bytes] = {}
        self.thinks = 0

    def activated(self) -> None:
        self._in_protocol = self._selected = self._authenticated = False
        self._number = 1
        self._parts = bytearray()
        self._chunks: list[bytes] = []
        self._waits = 0
        self._challenge = b""
        self._last = b""

    def command(self, data: bytes) -> RadioFrame | None:
        if not has_good_crc(data):
            return None
        frame = data[:-2]
        if not self._in_protocol:
            self._in_protocol = frame[:1] == b"\xe0"
            return radio_frame(with_crc(self._ATS)) if self._in_protocol else None
        answer = self._block(frame)
        if answer == DESELECT:
            self.state = self._rest = State.HALT
        if answer is None:
            return None
        self._last = answer
        return radio_frame(with_crc(answer))

    def _block(self, frame: bytes) -> bytes | None:
        pcb = frame[0]
        if frame == DESELECT:
            return DESELECT
        if pcb & 0xE6 == 0xA2:
            return self._on_r_block(pcb)
        if pcb == 0xF2:
            self._waits -= 1
            return b"\xf2\x02" if self._waits > 0 else self._send_chunk()
        self._number ^= 1
        self._parts += frame[1:]
        if pcb & 0x10:
            return bytes([0xA2 | self._number])
        command, self._parts = bytes(self._parts), bytearray()
        answer = self._perform(command)
        self._chunks = [answer[place : place + self._CHUNK] for place in range(0, len(answer), self._CHUNK)]
        self._waits = self.thinks
        return b"\xf2\x02" if self._waits else self._send_chunk()

    def _on_r_block(self, pcb: int) -> bytes:
        if pcb & 0x10 or pcb & 1 == self._number:
            return self._last
        self._number ^= 1
        return self._send_chunk()

    def _send_chunk(self) -> bytes:
        chunk = self._chunks.pop(0)
        return bytes([0x02 | self._number | (0x10 if self._chunks else 0)]) + chunk

    def _perform(self, command: bytes) -> bytes:
        match command[0]:
            case 0x5A:
                self._selected = int.from_bytes(command[1:4], "little") == self.aid
                return b"\x00" if self._selected else b"\xa0"
            case 0x71 if self._selected and self.key:
                self._challenge = secrets.token_bytes(16)
                return b"\xaf" + self._crypt(self._challenge)
            case 0xAF if self._challenge and self.key:
                return self._finish(self._crypt(command[1:], decrypt=True))
            case 0xBD if self._selected and (self._authenticated or not self.key):
                start, length = (int.from_bytes(command[place : place + 3], "little") for place in (2, 5))
                data = self.files.get(command[1])
                return b"\xf0" if data is None else b"\x00" + data[start : start + length]
            case _:
                return b"\xae"

    def _finish(self, answer: bytes) -> bytes:
        self._authenticated = answer[16:] == self._challenge[1:] + self._challenge[:1]
        if not self._authenticated:
            return b"\xae"
        return b"\x00" + self._crypt(secrets.token_bytes(4) + answer[1:16] + answer[:1] + bytes(12))

    def _crypt(self, data: bytes, *, decrypt: bool = False) -> bytes:
        cipher = Cipher(algorithms.AES(self.key or b""), modes.CBC(bytes(16)))
        step = cipher.decryptor() if decrypt else cipher.encryptor()
        return step.update(data) + step.finalize()
