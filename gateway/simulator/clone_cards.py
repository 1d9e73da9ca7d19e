"""Rewritable cards that imitate a MIFARE Classic, and the signs that reveal them."""

from __future__ import annotations

from dataclasses import replace

from gateway.cards.clones import (
    ACKNOWLEDGE,
    ACKNOWLEDGE_BITS,
    BACKDOOR_OPEN,
    BACKDOOR_WAKE_UP,
    BACKDOOR_WAKE_UP_BITS,
    GEN2_ATS,
)
from gateway.cards.iso14443 import HLTA, with_crc
from gateway.protocols.iso_dep import RATS
from gateway.simulator.card_memory import ClassicCard
from gateway.simulator.iso14443_cards import RadioFrame, State, radio_frame

_ACK = (ACKNOWLEDGE, ACKNOWLEDGE_BITS)
_WAKE_UP = (BACKDOOR_WAKE_UP[0], BACKDOOR_WAKE_UP_BITS)
_OPEN = radio_frame(BACKDOOR_OPEN)


class BackdoorCard(ClassicCard):
    """A "Gen1" card: after HLTA it takes two short commands and then anything, without a key.

    Args:
        opens: False for those that know the first command only.
    """

    def __init__(self, uid: bytes, *, opens: bool = True) -> None:
        super().__init__(uid)
        self._opens = opens
        self._woken = False

    def receive(self, frame: RadioFrame) -> RadioFrame | None:
        if frame == _WAKE_UP and self.state in {State.IDLE, State.HALT}:
            self._woken = True
            return _ACK
        if self._woken:
            if frame == _OPEN and self._opens:
                return _ACK
            self._woken = False
            if frame == radio_frame(with_crc(HLTA)):
                self.state = self._rest = State.HALT
                return None
        return super().receive(frame)


class StaticNonceCard(ClassicCard):
    """A card whose challenge never changes."""

    def challenge(self) -> bytes:
        return bytes.fromhex("01200145")


class Gen2Card(ClassicCard):
    """A card written with ordinary commands, which answers RATS though it claims to have no ISO 14443-4."""

    def command(self, data: bytes) -> RadioFrame | None:
        if data == with_crc(RATS):
            return radio_frame(with_crc(GEN2_ATS))
        return super().command(data)


class MismatchedCard(ClassicCard):
    """A copy that says SAK 08 with the ATQA of a DESFire."""

    def __init__(self, uid: bytes) -> None:
        super().__init__(uid)
        self.kind = replace(self.kind, atqa=bytes.fromhex("4403"))
