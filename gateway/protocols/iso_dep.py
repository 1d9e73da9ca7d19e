"""ISO/IEC 14443-4 half-duplex block transmission, reader's side, sans I/O; frames are without their CRC_A.

    I-block  02 | block number, 10 = more follows, then data
    R-block  A2 ACK, B2 NAK, | block number
    S-block  F2 waiting time extension, C2 DESELECT

Law of this file: one block is under way at a time; the block number turns with every I-block or ACK that was answered;
after silence or a damaged frame the card is asked to repeat, at most RETRIES times, then it is taken to be gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import BadMessage

RATS = b"\xe0\x50"  # our frames may have 64 bytes, the FIFO of the chip; card number 0
DESELECT = b"\xc2"
RETRIES = 2
_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
_OUR_SIZE = 64
_MORE = 0x10
_OVERHEAD = 3  # PCB and CRC_A
_MAX_RESPONSE = 4096
# A repeated answer is ready at once, whatever time the card allows itself for a new one.
_REPEAT_WAITING_US = 5000


@dataclass(frozen=True, slots=True)
class Ats:
    """The parameters that a card announces.

    Attributes:
        frame_bytes: the largest frame it takes, CRC_A included.
        waiting_us: how long it may think before it must answer.
    """

    frame_bytes: int
    waiting_us: int


def parse_ats(answer: bytes) -> Ats:
    """Read the answer to RATS: length, T0, then TA, TB, TC as T0 announces them.

    Raises:
        BadMessage: it is cut short.
    """
    if not answer or answer[0] != len(answer):
        raise BadMessage("The card's answer to select is cut short.")
    size, waiting = 2, 4
    if len(answer) > 1:
        t0 = answer[1]
        size = t0 & 0x0F
        place = 2 + bool(t0 & 0x10)
        if t0 & 0x20:
            if len(answer) <= place:
                raise BadMessage("The card's answer to select is cut short.")
            waiting = answer[place] >> 4
    # 256 * 16 / 13.56 MHz, doubled for each step; 15 is reserved.
    return Ats(_SIZES[min(size, 8)], 302 << min(waiting, 14))


class Exchange:
    """One command and its response.

    Args:
        block_number: 0 or 1, as the exchange before left it.

    Attributes:
        response: set when the last block of the answer is in.
        extended: the card has just asked for more time.
        repeats: the card stayed silent or its frame was damaged, and is asked to repeat.
    """

    def __init__(self, command: bytes, ats: Ats, block_number: int) -> None:
        self.block_number = block_number
        self.response: bytes | None = None
        self.extended = False
        self.repeats = False
        self._waiting_us = ats.waiting_us
        self._extension = 1
        self._chunk = min(ats.frame_bytes, _OUR_SIZE) - _OVERHEAD
        self._left = command
        self._got = bytearray()
        self._tries = 0
        self._frame = self._sent = self._next_chunk()

    @property
    def frame(self) -> bytes:
        """Return the frame to send now."""
        return self._frame

    @property
    def waiting_us(self) -> int:
        """Return how long the card may take to answer this frame."""
        return _REPEAT_WAITING_US if self.repeats else self._waiting_us * self._extension

    def _next_chunk(self) -> bytes:
        chunk, self._left = self._left[: self._chunk], self._left[self._chunk :]
        return bytes([0x02 | self.block_number | (_MORE if self._left else 0)]) + chunk

    def feed(self, answer: bytes | None) -> None:
        """Take the card's frame, None for silence or a damaged one.

        Raises:
            BadMessage: the card violates the protocol or stays silent; select it again.
        """
        self._extension, self.extended, self.repeats = 1, False, False
        if not answer:
            self._repeat()
            return
        pcb = answer[0]
        if pcb & 0xE2 == 0x02:
            self._take(pcb, answer[1:])
        elif pcb & 0xE6 == 0xA2:
            self._acknowledged(pcb)
        elif pcb & 0xF7 == 0xF2 and len(answer) == 2:
            self.extended = True
            self._extension = max(answer[1] & 0x3F, 1)
            self._frame = bytes([0xF2, answer[1] & 0x3F])
        else:
            raise BadMessage("The card sends a block of no known kind.")

    def _repeat(self) -> None:
        self._tries += 1
        if self._tries > RETRIES:
            raise BadMessage("The card has stopped answering.")
        self.repeats = True
        # ACK repeats what the card sent of a chain, NAK asks for the answer to our own block.
        self._frame = bytes([(0xA2 if self._got else 0xB2) | self.block_number])

    def _acknowledged(self, pcb: int) -> None:
        if pcb & 0x10 or self._got:
            raise BadMessage("The card refuses a block.")
        if pcb & 1 == self.block_number and self._left:
            self._tries = 0
            self.block_number ^= 1
            self._frame = self._sent = self._next_chunk()
        else:
            # It has not seen our last block, so it has yet to think.
            self._repeat()
            self._frame, self.repeats = self._sent, False

    def _take(self, pcb: int, data: bytes) -> None:
        if pcb & 1 != self.block_number or self._left:
            raise BadMessage("The card answers out of turn.")
        self._tries = 0
        self._got += data
        self.block_number ^= 1
        if len(self._got) > _MAX_RESPONSE:
            raise BadMessage("The card's answer does not end.")
        if pcb & _MORE:
            self._frame = bytes([0xA2 | self.block_number])
        else:
            self.response = bytes(self._got)
