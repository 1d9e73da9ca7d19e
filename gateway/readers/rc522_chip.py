"""An MFRC522 on its SPI line: bring-up, health, and one prepared message for every frame that repeats."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.cards.iso14443 import cascade_levels
from gateway.errors import ReaderOffline, RetryError
from gateway.protocols import mfrc522
from gateway.protocols.mfrc522 import Answer, Command, Frame, Health, Register, Selection
from gateway.transports.spi import SpiMessage, SpiTransport, Transfer

_RESET_TRIES = 150
_FIELD_RISE_SECONDS = 0.005  # ISO/IEC 14443-3: a card is ready at most 5 ms after the field
_SLOWEST_HZ = 250_000
_READS = 4
_READ_AGAIN_SECONDS = 50e-6
_PATTERNS = (0x55, 0xAA, 0x0F, 0xF0, 0x01, 0x80, 0x00, 0xFF)


def message_of(frame: Frame) -> SpiMessage:
    return SpiMessage([Transfer(data, delay_us) for data, delay_us in frame.steps])


class ChipFault(RetryError):
    """The chip answers nonsense or has lost its settings; look at its health."""


class Prepared:
    """One frame with its buffers."""

    __slots__ = ("data", "message", "received")

    def __init__(self, frame: Frame) -> None:
        self.message = message_of(frame)
        self.data = self.message.tx[frame.data_at]
        self.received = self.message.rx[frame.read_at]


class Rc522Chip:
    """The chip behind one SpiTransport; every method may raise ReaderOffline when the bus refuses."""

    def __init__(self, transport: SpiTransport, speed_hz: int, sleep: Callable[[float], None] = time.sleep) -> None:
        self.version = 0
        self.speed_hz = speed_hz
        self._transport = transport
        self._sleep = sleep
        # [only new cards][after HLTA][FIFO may hold something]
        self._wake = {
            (new, after_halt, flush): Prepared(
                mfrc522.join(mfrc522.halt(), mfrc522.wake_up(only_new=new, flush=flush))
                if after_halt
                else mfrc522.wake_up(only_new=new, flush=flush)
            )
            for new in (False, True)
            for after_halt in (False, True)
            for flush in (False, True)
        }
        self._anticollision = tuple(Prepared(mfrc522.anticollision(level)) for level in range(3))
        self._select = Prepared(mfrc522.select(0, bytes(4)))
        self._again = message_of(Frame(((mfrc522.read_answer(5), 0),), 0, 0))
        self._health = message_of(Frame(((mfrc522.gather(mfrc522.HEALTH), 0),), 0, 0))
        self._fifo_clean = False
        self._must_halt = False

    def start(self) -> Health:
        """Open the line, find a speed at which registers read back, set the chip up and switch the field on.

        Raises:
            ReaderOffline: nothing answers.
        """
        self._transport.open()
        self._transport.set_speed(self.speed_hz)
        self._soft_reset()
        self._find_speed()
        return self.configure()

    def configure(self) -> Health:
        """Reset the chip and give it its settings; the state of every card in the field is lost."""
        self._soft_reset()
        self._exchange(mfrc522.configuration_steps())
        on = mfrc522.write(Register.TX_CONTROL, mfrc522.RESET_TX_CONTROL | mfrc522.ANTENNA_ON)
        self._exchange(((on, 0),))
        self._fifo_clean = self._must_halt = False
        self._sleep(_FIELD_RISE_SECONDS)
        health = self.health()
        self.version = health.version
        return health

    def _soft_reset(self) -> None:
        self._exchange(((mfrc522.write(Register.COMMAND, Command.SOFT_RESET), 0),))
        for _ in range(_RESET_TRIES):
            self._sleep(0.001)
            command = self._read(Register.COMMAND)
            # An open MISO line reads 00 or FF for ever; a chip reads 20 once its oscillator runs.
            if command not in {0x00, 0xFF} and not command & mfrc522.POWER_DOWN:
                return
            if command in {0x00, 0xFF} and self.health().bus_dead:
                break
        raise ReaderOffline(f"No MFRC522 answers on {self._transport.port}; check wiring, 3.3 V and chip select.")

    def _find_speed(self) -> None:
        while not self._reads_back():
            if self.speed_hz // 2 < _SLOWEST_HZ:
                raise ReaderOffline(f"Registers on {self._transport.port} do not read back; shorten the wires.")
            self.speed_hz //= 2
            self._transport.set_speed(self.speed_hz)

    def _reads_back(self) -> bool:
        for pattern in _PATTERNS:
            steps = ((mfrc522.write(Register.T_RELOAD_LOW, pattern), 0), (mfrc522.gather((Register.T_RELOAD_LOW,)), 0))
            if self._exchange(steps).rx[1][1] != pattern:
                return False
        return True

    def _exchange(self, steps: tuple[mfrc522.Step, ...]) -> SpiMessage:
        message = SpiMessage([Transfer(data, delay_us) for data, delay_us in steps])
        self._transport.exchange(message)
        return message

    def _read(self, register: Register) -> int:
        return self._exchange(((mfrc522.gather((register,)), 0),)).rx[0][1]

    def health(self) -> Health:
        """Read the settings back; one system call."""
        self._transport.exchange(self._health)
        return Health.parse(self._health.rx[0])

    def wake_up(self, *, only_new: bool = False) -> Answer | None:
        """Ask for cards, first sending the selected one to HALT; None when nobody answers.

        Raises:
            ChipFault: the chip did not run the frame.
        """
        prepared = self._wake[only_new, self._must_halt, not self._fifo_clean]
        self._must_halt = False
        self._transport.exchange(prepared.message)
        irq = prepared.received[1]
        # The common case by far: the timer ran out and nothing was received.
        if irq & 0xA3 == mfrc522.IRQ_TIMER and not prepared.received[3]:
            self._fifo_clean = True
            return None
        self._fifo_clean = False
        answer = self._finish(prepared)
        return None if answer.silent else answer

    def select_any(self) -> Selection:
        """Walk the cards in READY down to one and select it.

        Raises:
            ChipFault: the chip did not run a frame.
        """
        walk = Selection()
        # 32 bits a level, one frame each at worst, and one SELECT.
        for _ in range(3 * 34):
            if walk.part:
                prepared = self._prepare_select(walk.level, walk.part)
            elif walk.partial:
                prepared = Prepared(walk.frame())
            else:
                prepared = self._anticollision[walk.level]
            self._transport.exchange(prepared.message)
            walk.feed(self._finish(prepared))
            if walk.sak is not None or walk.failed:
                break
        self._must_halt = walk.sak is not None
        return walk

    def select_known(self, uid: bytes) -> bool:
        """Select this card among those in READY; True when it answered."""
        walk = Selection()
        for level, part in enumerate(cascade_levels(uid)):
            walk.take(part)
            prepared = self._prepare_select(level, part)
            self._transport.exchange(prepared.message)
            walk.feed(self._finish(prepared))
            if walk.failed:
                return False
        self._must_halt = walk.sak is not None
        return self._must_halt

    def _prepare_select(self, level: int, part: bytes) -> Prepared:
        # The first byte of the step is the FIFO's address.
        for place, value in enumerate(mfrc522.select_bytes(level, part), 1):
            self._select.data[place] = value
        return self._select

    def _finish(self, prepared: Prepared) -> Answer:
        received = prepared.received
        for _ in range(_READS):
            if received[1] & 0x80 or received[3] > mfrc522.FIFO_BYTES:
                raise ChipFault  # bits that no chip sets: the line reads FF
            answer = Answer.parse(received)
            if not answer.pending:
                return answer
            self._sleep(_READ_AGAIN_SECONDS)
            self._transport.exchange(self._again)
            received = self._again.rx[0]
        raise ChipFault

    def close(self) -> None:
        """Give the line back; the field stays as it is."""
        self._transport.close()
