"""Reading a card's memory through an MFRC522: authentication, blocks, and the way out of a session."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.cards.iso14443 import with_crc
from gateway.protocols.mfrc522 import (
    ANSWER,
    CLEAR_IRQS,
    CRYPTO_ON,
    FLUSH_FIFO,
    SHORT_TIMEOUT_TICKS,
    TIMER_TICK_US,
    Command,
    Frame,
    Register,
    Step,
    gather,
    halt,
    timeout,
    transceive,
    write,
)

# Three passes and the cipher take about 2 ms; a wrong key only shows as silence.
_WAIT_AUTHENTICATE_US = 2000
_WAIT_READ_US = 2000
_LONG_TIMEOUT_TICKS = 200
# Sent, thought about and answered, or given up.
LONGEST_US = _WAIT_READ_US + _LONG_TIMEOUT_TICKS * TIMER_TICK_US


def authenticate(kind: int, block: int, key: bytes, uid_part: bytes) -> Frame:
    """Build MFAuthent for a MIFARE Classic sector; the answer has Status2 in place of data.

    Args:
        kind: 60 for key A, 61 for key B.
        uid_part: the last four UID bytes, those of the last cascade level.
    """
    steps: list[Step] = [
        (write(Register.COMMAND, Command.IDLE), 0),
        (write(Register.FIFO_LEVEL, FLUSH_FIFO), 0),
        *timeout(_LONG_TIMEOUT_TICKS),
        (write(Register.FIFO_DATA, kind, block, *key, *uid_part), 0),
        (write(Register.COM_IRQ, CLEAR_IRQS), 0),
        (write(Register.BIT_FRAMING, 0), 0),
        (write(Register.COMMAND, Command.MF_AUTHENT), _WAIT_AUTHENTICATE_US),
        (read_authentication(), 0),
    ]
    return Frame(tuple(steps), 4, len(steps) - 1)


def read_authentication() -> bytes:
    return gather((*ANSWER, Register.STATUS_2))


def is_authenticated(received: Sequence[int]) -> bool:
    """Read the answer to `read_authentication`."""
    return bool(received[1 + len(ANSWER)] & CRYPTO_ON)


def read_memory(block: int) -> Frame:
    """Build READ of a Classic block or of four NTAG pages: 16 bytes and CRC_A come back."""
    return transceive(
        with_crc(bytes([0x30, block])), answer_bytes=18, wait_us=_WAIT_READ_US, timeout_ticks=_LONG_TIMEOUT_TICKS
    )


def end_session() -> Frame:
    """Build HLTA under the cipher, then switch the cipher off and the short time-out on."""
    steps = halt().steps
    return Frame((*steps, (write(Register.STATUS_2, 0), 0), *timeout(SHORT_TIMEOUT_TICKS)), 2, -1)
