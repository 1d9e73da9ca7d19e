"""Selects one of several cards in READY: anticollision and SELECT, sans I/O."""

from __future__ import annotations

from gateway.cards.iso14443 import CASCADE_TAG, SAK_UID_INCOMPLETE, SEL_CODES, bcc, has_good_crc
from gateway.protocols.mfrc522 import IRQ_RX, Answer, Frame, anticollision, select


class Selection:
    """The walk from ATQA to a selected card, one cascade level after the other; ISO/IEC 14443-3 section 6.5.3.

    Law of this class: it never names a UID of which BCC and every SAK's CRC_A were not right. Ask `frame`, send it,
    `feed` the answer, until `sak` is set or `failed` says why not.

    The position that the chip gives for a collision is used for the first one of a level only: the data sheet does not
    say how it counts when part of a byte was sent. After that, with three cards or more in the field, the walk goes bit
    by bit.
    """

    def __init__(self) -> None:
        self.uid = b""
        self.sak: int | None = None
        self.failed = ""
        self.collisions = 0
        self._level = 0
        self._known = 0
        self._known_bits = 0
        self._part = b""
        self._stepping = False

    @property
    def level(self) -> int:
        return self._level

    @property
    def part(self) -> bytes:
        """Return the four bytes to select, empty while anticollision of this level is under way."""
        return self._part

    @property
    def partial(self) -> bool:
        """Return whether the next frame carries known bits, so that the plain prepared frame does not fit."""
        return self._known_bits > 0

    def take(self, part: bytes) -> None:
        """Go straight to SELECT with four bytes that are already known."""
        self._part = part

    def frame(self) -> Frame:
        if self._part:
            return select(self._level, self._part)
        return anticollision(self._level, self._known, self._known_bits)

    def feed(self, answer: Answer) -> None:
        if self._part:
            self._feed_select(answer)
        else:
            self._feed_anticollision(answer)

    def _feed_anticollision(self, answer: Answer) -> None:
        if answer.collision is not None and self._known_bits < 32:
            self._collide(answer)
            return
        if not answer.irq & IRQ_RX and self._stepping and self._known >> self._known_bits - 1 & 1:
            # Nobody has a 1 here, so all who still answer have a 0.
            self._known ^= 1 << self._known_bits - 1
            return
        if not answer.clean:
            self.failed = "no clean answer to anticollision"
            return
        whole, shift = divmod(self._known_bits, 8)
        # The first received byte holds its bits above the known ones.
        value = self._known | (int.from_bytes(answer.data, "little") >> shift << shift) << 8 * whole
        if value >> 40 or len(answer.data) != 5 - whole:
            self.failed = "wrong length in anticollision"
            return
        five = value.to_bytes(5, "little")
        if bcc(five[:4]) != five[4]:
            self.failed = "wrong check byte in anticollision"
            return
        self._part = five[:4]

    def _collide(self, answer: Answer) -> None:
        self.collisions += 1
        position = answer.collision or 0
        if not self._known_bits and position < 32:
            self._known = int.from_bytes(answer.data, "little") & (1 << position) - 1 | 1 << position
            self._known_bits = position + 1
        else:
            self._stepping = True
            self._known |= 1 << self._known_bits
            self._known_bits += 1

    def _feed_select(self, answer: Answer) -> None:
        if not answer.clean or len(answer.data) != 3 or not has_good_crc(answer.data):
            self.failed = "no clean answer to SELECT"
            return
        sak = answer.data[0]
        more = bool(sak & SAK_UID_INCOMPLETE)
        if more != (self._part[0] == CASCADE_TAG) or (more and self._level == len(SEL_CODES) - 1):
            self.failed = "cascade tag and SAK do not agree"
            return
        self.uid += self._part[1:] if more else self._part
        if more:
            self._level += 1
            self._known = self._known_bits = 0
            self._part = b""
            self._stepping = False
            return
        self.sak = sak
