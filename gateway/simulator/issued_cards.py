"""Cards as a school's supplier programs them: a number in a MIFARE Classic sector or a DESFire file.

The number is the UID read as one integer, so that the expected result of each card is known.
"""

from __future__ import annotations

from gateway.simulator.card_memory import ClassicCard
from gateway.simulator.desfire_card import DesfireCard
from gateway.simulator.iso14443_cards import RadioFrame

FILE_AID, FILE = 0x3042F5, 2


def digits(uid: bytes) -> bytes:
    return str(int.from_bytes(uid, "big")).encode()


def sector_card(uid: bytes) -> ClassicCard:
    """Return a Classic with its number in the first block of sector 1, under the factory key."""
    card = ClassicCard(uid)
    card.write(1, 0, digits(uid))
    return card


class WorkingDesfire(DesfireCard):
    """A DESFire that takes its time for each command, as a real one's cipher does.

    Attributes:
        command_us: how long; what opens and ends the session is answered at once.
    """

    command_us = 8000

    def command(self, data: bytes) -> RadioFrame | None:
        is_command = self._in_protocol and data[:1] in {b"\x02", b"\x03"}
        answer = super().command(data)
        self.working_us = self.command_us if is_command else 0
        return answer


def file_card(uid: bytes) -> WorkingDesfire:
    """Return a DESFire with its number in a file that everybody may read."""
    card = WorkingDesfire(uid, FILE_AID)
    card.files[FILE] = digits(uid)
    return card
