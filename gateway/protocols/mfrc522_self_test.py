"""The MFRC522's digital self-test; data sheet section 16.1.1. The chip must be set up again afterwards."""

from __future__ import annotations

from gateway.protocols.mfrc522 import FLUSH_FIFO, Command, Register, Step, write

# Data sheet section 16.1.1, by version register; clones have tables of their own, or none.
AUTO_TEST_ON = 0x09
SELF_TEST = {
    0x91: bytes.fromhex(
        "00C637D532B7575CC2D87C4DD970C77310E6D2AA5EA13E5A14AF3061C970DB2E"
        "642272B5BD65F4EC22BCD37235CDAA411FA7F35314DE7E02D90FB55E251D2979"
    ),
    0x92: bytes.fromhex(
        "00EB66BA57BF2395D0E30D3D27895CDE9D3BA700215B8982513AEB020CA50049"
        "7C844DB3CCD21B815D4876D5716121A986968338CF9D5B6DDC15BA3E7D953B2F"
    ),
}


def steps() -> tuple[Step, ...]:
    """Return the writes that start the digital self-test after a reset; 64 bytes are in the FIFO when it is done."""
    return (
        (write(Register.FIFO_LEVEL, FLUSH_FIFO), 0),
        (write(Register.FIFO_DATA, *bytes(25)), 0),
        (write(Register.COMMAND, Command.MEM), 1000),
        (write(Register.AUTO_TEST, AUTO_TEST_ON), 0),
        (write(Register.FIFO_DATA, 0), 0),
        (write(Register.COMMAND, Command.CALC_CRC), 20_000),
    )
