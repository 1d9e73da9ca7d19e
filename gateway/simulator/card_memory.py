"""Cards with memory: MIFARE Classic blocks behind keys, NTAG pages; for DESFire see desfire_card.py.

The Classic's cipher is not modelled: what it protects is, so a frame of the wrong kind, encrypted or plain, throws the
card out of its session.
"""

from __future__ import annotations

import secrets

from gateway.cards.iso14443 import has_good_crc, with_crc
from gateway.cards.mifare_classic import AUTH_A, AUTH_B, BLOCK_BYTES, FACTORY_KEY, READ, first_block, trailer_block
from gateway.cards.ntag import GET_VERSION, PAGE_BYTES, READ_SIGNATURE
from gateway.simulator.iso14443_cards import (
    CLASSIC_1K,
    CLASSIC_1K_7,
    NTAG,
    Card,
    RadioFrame,
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
        """Return the card's first nonce of an authentication."""
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
