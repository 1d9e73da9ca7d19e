"""The MFRC522 over SPI: register map, radio frames as chains of transfers, answers, health.

Pure: a Frame says which bytes to send and how long to wait; the owner of the bus sends them and passes the answer back.
Sources: NXP MFRC522 data sheet rev. 3.9, sections 8.1.2 (SPI), 8.5 (timer), 9 (registers), 10 (commands); ISO/IEC
14443-3 type A, sections 6.4 and 6.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gateway.cards.iso14443 import (
    HLTA,
    REQA,
    SEL_CODES,
    WUPA,
    bcc,
    with_crc,
)


class Register(IntEnum):
    COMMAND = 0x01
    COM_IEN = 0x02
    DIV_IEN = 0x03
    COM_IRQ = 0x04
    DIV_IRQ = 0x05
    ERROR = 0x06
    STATUS_1 = 0x07
    STATUS_2 = 0x08
    FIFO_DATA = 0x09
    FIFO_LEVEL = 0x0A
    CONTROL = 0x0C
    BIT_FRAMING = 0x0D
    COLL = 0x0E
    MODE = 0x11
    TX_MODE = 0x12
    RX_MODE = 0x13
    TX_CONTROL = 0x14
    TX_ASK = 0x15
    MOD_WIDTH = 0x24
    RF_CFG = 0x26
    T_MODE = 0x2A
    T_PRESCALER = 0x2B
    T_RELOAD_HIGH = 0x2C
    T_RELOAD_LOW = 0x2D
    AUTO_TEST = 0x36
    VERSION = 0x37


class Command(IntEnum):
    IDLE = 0x0
    MEM = 0x1
    CALC_CRC = 0x3
    TRANSMIT = 0x4
    TRANSCEIVE = 0xC
    MF_AUTHENT = 0xE
    SOFT_RESET = 0xF


IRQ_TX, IRQ_RX, IRQ_IDLE, IRQ_ERROR, IRQ_TIMER = 0x40, 0x20, 0x10, 0x02, 0x01
ERROR_FIFO, ERROR_COLLISION, ERROR_CRC, ERROR_PARITY, ERROR_PROTOCOL = 0x10, 0x08, 0x04, 0x02, 0x01
POWER_DOWN = 0x10
CRYPTO_ON = 0x08
ANTENNA_ON = 0x03
START_SEND = 0x80
FLUSH_FIFO = 0x80
CLEAR_IRQS = 0x7F
FIFO_BYTES = 64

# Version register -> chip; clones work and are only named.
CHIPS = {
    0x90: "MFRC522 v0.0",
    0x91: "MFRC522 v1.0",
    0x92: "MFRC522 v2.0",
    0x88: "FM17522 clone",
    0xB2: "FM17522 clone",
    0x82: "MFRC522 clone",
    0x12: "MFRC522 clone",
}

# Timer clock 13.56 MHz / (2 * 169 + 1) = 40 kHz: one tick is 25 us.
TIMER_PRESCALER = 0x0A9
TIMER_TICK_US = 25
# A card starts its answer to REQA, anticollision and SELECT 86..91 us after the frame; five bits stop the timer.
SHORT_TIMEOUT_TICKS = 9

# The settings a working chip holds; the health check reads them back.
CONFIGURATION: tuple[tuple[Register, int], ...] = (
    (Register.TX_MODE, 0x00),  # 106 kbit/s, CRC_A is ours
    (Register.RX_MODE, 0x00),
    (Register.MOD_WIDTH, 0x26),
    (Register.T_MODE, 0x80 | TIMER_PRESCALER >> 8),  # TAuto: the timer starts at the end of every transmission
    (Register.T_PRESCALER, TIMER_PRESCALER & 0xFF),
    (Register.T_RELOAD_HIGH, 0x00),
    (Register.T_RELOAD_LOW, SHORT_TIMEOUT_TICKS),
    (Register.TX_ASK, 0x40),  # 100 % ASK
    (Register.MODE, 0x3D),  # CRC preset 6363
    (Register.RF_CFG, 0x48),  # receiver gain 33 dB
    (Register.COLL, 0x00),  # bits after a collision read as zero
)

# What a powered chip holds after a reset, as a tell-tale of a brown-out.
RESET_MODE, RESET_TX_CONTROL = 0x3F, 0x80

Step = tuple[bytes, int]
"""Bytes of one chip-select period, and microseconds to wait after it."""


def write(register: int, *values: int) -> bytes:
    """Return the bytes that write values to one register; several values go to the same address (FIFO burst)."""
    return bytes([register << 1, *values])


def gather(registers: Sequence[int]) -> bytes:
    """Return the bytes that read registers in one period; the answer lags by one byte."""
    return bytes([*(0x80 | register << 1 for register in registers), 0x00])


@dataclass(frozen=True, slots=True)
class Frame:
    """One radio frame as a chain of transfers.

    Attributes:
        data_at: which step carries the frame's bytes (after one address byte); same-length bytes may replace them.
        read_at: which step reads the answer, -1 when none is expected.
    """

    steps: tuple[Step, ...]
    data_at: int
    read_at: int


ANSWER = (Register.COM_IRQ, Register.ERROR, Register.FIFO_LEVEL, Register.CONTROL, Register.COLL)
_ANSWER_DATA = 1 + len(ANSWER)


def transceive(
    data: bytes,
    *,
    answer_bytes: int,
    wait_us: int,
    last_bits: int = 0,
    align: int = 0,
    flush: bool = True,
    timeout_ticks: int | None = None,
) -> Frame:
    """Build a frame that sends and reads the answer in the same chain.

    Args:
        answer_bytes: how many FIFO bytes to read after the wait.
        wait_us: from the start of the transmission until the answer or the time-out is complete.
        last_bits: how many bits of the last byte are sent, 0 for all.
        align: where the first received bit goes in the first byte.
        flush: False saves one transfer when the FIFO is known to be empty.
        timeout_ticks: another answer time-out than the short one; the chip keeps it for the frames that follow.
    """
    # StartSend stays set from the frame before and would start this one early with the old bit count, so the framing
    # is written without it first.
    framing = align << 4 | last_bits
    steps: list[Step] = [(write(Register.COMMAND, Command.IDLE), 0)]
    if flush:
        steps.append((write(Register.FIFO_LEVEL, FLUSH_FIFO), 0))
    if timeout_ticks is not None:
        steps += timeout(timeout_ticks)
    data_at = len(steps)
    steps += [
        (write(Register.FIFO_DATA, *data), 0),
        (write(Register.COM_IRQ, CLEAR_IRQS), 0),
        (write(Register.BIT_FRAMING, framing), 0),
        (write(Register.COMMAND, Command.TRANSCEIVE), 0),
        (write(Register.BIT_FRAMING, START_SEND | framing), wait_us),
        (read_answer(answer_bytes), 0),
    ]
    return Frame(tuple(steps), data_at, len(steps) - 1)


def timeout(ticks: int) -> tuple[Step, Step]:
    """Return the writes that set the answer time-out, in ticks of TIMER_TICK_US."""
    return (write(Register.T_RELOAD_HIGH, ticks >> 8), 0), (write(Register.T_RELOAD_LOW, ticks & 0xFF), 0)


def read_answer(answer_bytes: int) -> bytes:
    """Return the gather read that `Answer.parse` understands."""
    return gather((*ANSWER, *[Register.FIFO_DATA] * answer_bytes))


def one_by_one(frame: Frame) -> Frame:
    """Replace the gather read by one read a register, for clones that do not gather; data first, then the answer."""
    reading = frame.steps[frame.read_at][0]
    single = tuple((bytes([address, 0x00]), 0) for address in reading[:-1])
    return Frame(frame.steps[: frame.read_at] + single, frame.data_at, frame.read_at)


def transmit(data: bytes, *, wait_us: int) -> Frame:
    """Build a frame that expects no answer."""
    return Frame(
        (
            (write(Register.COMMAND, Command.IDLE), 0),
            (write(Register.FIFO_LEVEL, FLUSH_FIFO), 0),
            (write(Register.FIFO_DATA, *data), 0),
            (write(Register.BIT_FRAMING, 0), 0),
            (write(Register.COMMAND, Command.TRANSMIT), wait_us),
        ),
        2,
        -1,
    )


# The pin as a reset leaves it: inverted (ComIEnReg bit 7) and open drain (DivIEnReg bit 7 clear), so it is low while an
# enabled interrupt bit is set and needs a pull-up of the host.
IRQ_INVERTED = 0x80


def announced(frame: Frame, irqs: int) -> Frame:
    """Let the interrupt pin fall when one of these interrupts ends the frame, and rise again before the answer is read.

    The bits of the frame before are cleared by then, so the pin falls once.
    """
    start = frame.read_at - 1
    steps = (
        *frame.steps[:start],
        (write(Register.COM_IEN, IRQ_INVERTED | irqs), 0),
        frame.steps[start],
        (write(Register.COM_IEN, IRQ_INVERTED), 0),
        *frame.steps[frame.read_at :],
    )
    return Frame(steps, frame.data_at, frame.read_at + 2)


def join(first: Frame, second: Frame) -> Frame:
    """Chain two frames; data and answer are those of the second."""
    shift = len(first.steps)
    return Frame(first.steps + second.steps, second.data_at + shift, second.read_at + shift)


# Air times at 106 kbit/s (1 etu = 9.44 us, 9 bits a byte): WUPA to end of ATQA 360 us, time-out 335; anticollision 724;
# SELECT 1148; HLTA 359 and a pause before the next frame. Sleeps run over, the kernel's by up to a tenth, so these ask
# for a little less; an early read is repeated.
_WAIT_REQUEST_US = 345
_WAIT_ANTICOLLISION_US = 700
_WAIT_SELECT_US = 1120
_WAIT_HALT_US = 450


def wake_up(*, only_new: bool = False, flush: bool = True) -> Frame:
    """Build WUPA, or REQA, which halted cards ignore."""
    command = REQA if only_new else WUPA
    return transceive(bytes([command]), answer_bytes=2, wait_us=_WAIT_REQUEST_US, last_bits=7, flush=flush)


def halt() -> Frame:
    return transmit(with_crc(HLTA), wait_us=_WAIT_HALT_US)


def anticollision(level: int, known: int = 0, known_bits: int = 0) -> Frame:
    """Build an anticollision frame.

    Args:
        level: cascade level from 0.
        known: UID bits known so far, first sent bit in bit 0.
        known_bits: how many of them; the cards that have them answer with the rest.
    """
    whole, part = divmod(known_bits, 8)
    nvb = 2 + whole << 4 | part
    data = bytes([SEL_CODES[level], nvb]) + known.to_bytes(whole + (part > 0), "little")
    return transceive(
        data, answer_bytes=5 - whole, wait_us=_WAIT_ANTICOLLISION_US + 3 * known_bits, last_bits=part, align=part
    )


def select(level: int, part: bytes) -> Frame:
    """Build SELECT with the four bytes of one cascade level."""
    return transceive(select_bytes(level, part), answer_bytes=3, wait_us=_WAIT_SELECT_US)


def select_bytes(level: int, part: bytes) -> bytes:
    return with_crc(bytes([SEL_CODES[level], 0x70]) + part + bytes([bcc(part)]))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the chip holds after a frame.

    Attributes:
        data: received bytes.
        last_bits: valid bits in the last byte, 0 for all.
        collision: position of the first collided bit in the received frame from 0, None when there was none.
    """

    irq: int
    error: int
    data: bytes
    last_bits: int
    collision: int | None

    @classmethod
    def parse(cls, received: Sequence[int]) -> Answer:
        """Read the answer to `read_answer`; the first byte belongs to no register."""
        irq, error, level, control, coll = received[1:_ANSWER_DATA]
        data = bytes(received[_ANSWER_DATA : _ANSWER_DATA + min(level, FIFO_BYTES)])
        collision = None
        if error & ERROR_COLLISION and not coll & 0x20:
            collision = ((coll & 0x1F) or 32) - 1
        return cls(irq, error, data, control & 0x07, collision)

    @property
    def pending(self) -> bool:
        """Return whether the frame is still under way."""
        return not self.irq & (IRQ_RX | IRQ_TIMER | IRQ_IDLE)

    @property
    def silent(self) -> bool:
        """Return whether no card answered in time."""
        return not self.irq & IRQ_RX and bool(self.irq & IRQ_TIMER)

    @property
    def clean(self) -> bool:
        return bool(self.irq & IRQ_RX) and not self.error & (
            ERROR_FIFO | ERROR_COLLISION | ERROR_PARITY | ERROR_PROTOCOL
        )


def configuration_steps() -> tuple[Step, ...]:
    """Return the writes that bring a reset chip to its settings; the antenna stays off."""
    return tuple((write(register, value), 0) for register, value in CONFIGURATION)


def antenna(*, on: bool) -> bytes:
    """Return the write that switches the carrier."""
    return write(Register.TX_CONTROL, RESET_TX_CONTROL | (ANTENNA_ON if on else 0))


HEALTH = (
    Register.VERSION,
    Register.TX_CONTROL,
    Register.COMMAND,
    Register.STATUS_2,
    *(reg for reg, _ in CONFIGURATION),
)


@dataclass(frozen=True, slots=True)
class Health:
    """The chip's settings as read back; `fault` is one phrase, empty when all is well.

    Attributes:
        bus_dead: every byte reads 00 or FF: no chip on the line.
        was_reset: the chip runs on its power-on values, as after a dip of the supply.
    """

    version: int
    bus_dead: bool
    was_reset: bool
    fault: str

    @classmethod
    def parse(cls, received: Sequence[int], *, antenna: bool = True) -> Health:
        """Read the answer to `gather(HEALTH)`."""
        values = tuple(received[1 : 1 + len(HEALTH)])
        version, tx_control, command, status_2 = values[:4]
        shadow = values[4:]
        held = dict(zip((reg for reg, _ in CONFIGURATION), shadow, strict=True))
        if all(value == 0xFF for value in values) or not any(values):
            return cls(version, True, False, "no chip answers")
        was_reset = held[Register.MODE] == RESET_MODE and tx_control == RESET_TX_CONTROL
        wrong = [reg.name for reg, value in CONFIGURATION if held[reg] & _HELD_BITS.get(reg, 0xFF) != value]
        fault = ""
        if was_reset:
            fault = "the chip has lost its settings"
        elif command & POWER_DOWN:
            fault = "the chip is powered down"
        elif wrong:
            fault = f"registers read back wrong: {', '.join(wrong)}"
        elif antenna and tx_control & ANTENNA_ON != ANTENNA_ON:
            fault = "the antenna is off"
        elif status_2 & CRYPTO_ON:
            fault = "the cipher is stuck on"
        return cls(version, False, was_reset, fault)


# Of the collision register only ValuesAfterColl is a setting; the rest tells of the last frame.
_HELD_BITS = {Register.COLL: 0x80}
