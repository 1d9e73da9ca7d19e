"""An MFRC522 on its SPI line: bring-up, health, and one prepared message for every frame that repeats.

What a line or a clone cannot do is found at the start by asking twice: one transfer a call against a chain, single
reads against a gather read, a wait inside a message against the clock.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence

from gateway.cards.iso14443 import cascade_levels, has_good_crc, with_crc
from gateway.errors import ReaderOffline, RetryError
from gateway.protocols import mfrc522, mfrc522_memory
from gateway.protocols.mfrc522 import Answer, Command, Frame, Health, Register, Step
from gateway.protocols.selection import Selection
from gateway.transports.reset_line import ResetLine
from gateway.transports.spi import SpiMessage, SpiTransport, Transfer

log = logging.getLogger(__name__)

_RESET_TRIES = 150
_FIELD_RISE_SECONDS = 0.005  # ISO/IEC 14443-3: a card is ready at most 5 ms after the field
_SLOWEST_HZ = 250_000
_READS = 4
_READ_AGAIN_SECONDS = 50e-6
_LONG_READ_AGAIN_SECONDS = 1.5e-3
_BARE_TIMEOUT_TICKS = 1000 // mfrc522.TIMER_TICK_US  # ten times what a card takes to begin
_PATTERNS = (0x55, 0xAA, 0x0F, 0xF0, 0x01, 0x80, 0x00, 0xFF)
_PROBE_DELAY_US = 3000
_PROBES = 3


class ChipFault(RetryError):
    """The chip answers nonsense or has lost its settings; look at its health."""


class Prepared:
    """One frame with its buffers.

    Attributes:
        data: what the frame sends, after one address byte.
    """

    __slots__ = ("_answers", "_gathers", "data", "message")

    def __init__(self, frame: Frame, *, gathers: bool = True) -> None:
        frame = frame if gathers else mfrc522.one_by_one(frame)
        self.message = message_of(frame.steps)
        self.data = self.message.tx[frame.data_at]
        self._gathers = gathers
        self._answers = self.message.rx[frame.read_at :]

    @property
    def received(self) -> Sequence[int]:
        """Give the answer as a gather read gives it: one byte of no register, then the registers."""
        return self._answers[0] if self._gathers else [0, *(answer[1] for answer in self._answers)]


def message_of(steps: Sequence[Step]) -> SpiMessage:
    return SpiMessage([Transfer(data, delay_us) for data, delay_us in steps])


class Rc522Chip:
    """The chip behind one SpiTransport; every method may raise ReaderOffline when the bus refuses.

    Args:
        reset: the chip's reset pin, used when a soft reset does not bring it back.
    """

    def __init__(
        self,
        transport: SpiTransport,
        speed_hz: int,
        reset: ResetLine | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.version = 0
        self.speed_hz = speed_hz
        self.gathers = True
        self._transport = transport
        self._reset = reset
        self._sleep = sleep
        self._now_ns = now_ns
        self._fifo_clean = False
        self._must_halt = False
        self._prepare()

    def _prepare(self) -> None:
        # Keys: only new cards are asked, a selected card is halted first, the FIFO may hold something.
        self._wake = {
            (new, after_halt, flush): self._prepared(
                mfrc522.join(mfrc522.halt(), mfrc522.wake_up(only_new=new, flush=flush))
                if after_halt
                else mfrc522.wake_up(only_new=new, flush=flush)
            )
            for new, after_halt, flush in itertools.product((False, True), repeat=3)
        }
        self._anticollision = tuple(self._prepared(mfrc522.anticollision(level)) for level in range(3))
        self._select = self._prepared(mfrc522.select(0, bytes(4)))
        self._again = self._prepared(Frame(((mfrc522.read_answer(5), 0),), 0, 0))
        self._health = self._prepared(Frame(((mfrc522.gather(mfrc522.HEALTH), 0),), 0, 0))

    def _prepared(self, frame: Frame) -> Prepared:
        return Prepared(frame, gathers=self.gathers)

    def start(self) -> Health:
        """Open the line, wake the chip, find how it can be talked to, set it up and switch the field on.

        Raises:
            ReaderOffline: nothing answers.
        """
        self._transport.open()
        self._transport.set_speed(self.speed_hz)
        try:
            self._soft_reset()
        except ReaderOffline:
            if self._reset is None:
                raise
            log.warning("the chip on %s does not answer, pulling its reset pin", self._transport.port)
            self._reset.pulse()
            self._soft_reset()
        self._find_speed()
        self._find_abilities()
        return self.configure()

    def configure(self) -> Health:
        """Reset the chip and give it its settings; the state of every card in the field is lost."""
        self._soft_reset()
        on = mfrc522.write(Register.TX_CONTROL, mfrc522.RESET_TX_CONTROL | mfrc522.ANTENNA_ON)
        self._exchange((*mfrc522.configuration_steps(), (on, 0)))
        self._fifo_clean = self._must_halt = False
        self._sleep(_FIELD_RISE_SECONDS)
        health = self.health()
        self.version = health.version
        return health

    def _soft_reset(self) -> None:
        self._exchange(((mfrc522.write(Register.COMMAND, Command.SOFT_RESET), 0),))
        for attempt in range(_RESET_TRIES):
            self._sleep(0.001)
            command = self._read(Register.COMMAND)
            # An open MISO line reads 00 or FF for ever; a chip reads 20 once its oscillator runs.
            if command in {0x00, 0xFF}:
                if attempt > 2 and self._read(Register.VERSION) in {0x00, 0xFF}:
                    break
            elif not command & mfrc522.POWER_DOWN:
                return
        raise ReaderOffline(f"No MFRC522 answers on {self._transport.port}; check wiring, 3.3 V and chip select.")

    def _find_speed(self) -> None:
        while not self._reads_back():
            if self.speed_hz // 2 < _SLOWEST_HZ:
                raise ReaderOffline(f"Registers on {self._transport.port} do not read back; shorten the wires.")
            self.speed_hz //= 2
            self._transport.set_speed(self.speed_hz)
            log.warning("registers on %s read back wrong, now at %d Hz", self._transport.port, self.speed_hz)

    def _reads_back(self) -> bool:
        for pattern in _PATTERNS:
            self._exchange(((mfrc522.write(Register.T_RELOAD_LOW, pattern), 0),))
            if self._read(Register.T_RELOAD_LOW) != pattern:
                return False
        return True

    def _find_abilities(self) -> None:
        # A bit error must not slow a good line down, so one success in a few is enough.
        self._transport.single = False
        if not any(self._chains() for _ in range(_PROBES)):
            self._transport.single = True
            log.warning("%s does not chain transfers with waits; one call a transfer", self._transport.port)
        gathers = any(self._gathers() for _ in range(_PROBES))
        if gathers != self.gathers:
            self.gathers = gathers
            self._prepare()
        if not gathers:
            log.warning("the chip on %s does not gather reads; one transfer a register", self._transport.port)

    def _chains(self) -> bool:
        begin_ns = self._now_ns()
        chain = self._exchange(
            (
                (mfrc522.write(Register.T_RELOAD_LOW, 0x5A), 0),
                (mfrc522.write(Register.T_RELOAD_HIGH, 0x33), _PROBE_DELAY_US),
                (mfrc522.gather((Register.T_RELOAD_LOW,)), 0),
            )
        )
        waited_us = (self._now_ns() - begin_ns) / 1000
        return waited_us >= _PROBE_DELAY_US and chain.rx[2][1] == 0x5A and self._read(Register.T_RELOAD_HIGH) == 0x33

    def _gathers(self) -> bool:
        self._exchange(((mfrc522.write(Register.T_RELOAD_LOW, 0x5A), 0),))
        self._exchange(((mfrc522.write(Register.T_RELOAD_HIGH, 0x33), 0),))
        pair = self._exchange(((mfrc522.gather((Register.T_RELOAD_LOW, Register.T_RELOAD_HIGH)), 0),)).rx[0]
        return tuple(pair[1:]) == (0x5A, 0x33)

    def _exchange(self, steps: tuple[Step, ...]) -> SpiMessage:
        message = message_of(steps)
        self._transport.exchange(message)
        return message

    def _read(self, register: Register) -> int:
        return self._exchange(((mfrc522.gather((register,)), 0),)).rx[0][1]

    def health(self) -> Health:
        """Read the settings back; one system call."""
        self._transport.exchange(self._health.message)
        return Health.parse(self._health.received)

    def self_test(self) -> bool | None:
        """Run the chip's digital self-test and set it up again; None when this version has no published answer."""
        self._soft_reset()
        self._exchange(mfrc522.self_test_steps())
        answer = bytes(self._read(Register.FIFO_DATA) for _ in range(mfrc522.FIFO_BYTES))
        self._exchange(((mfrc522.write(Register.AUTO_TEST, 0), 0),))
        self.configure()
        expected = mfrc522.SELF_TEST.get(self.version)
        return None if expected is None else answer == expected

    def wake_up(self, *, only_new: bool = False) -> Answer | None:
        """Ask for cards, first sending the selected one to HALT; None when nobody answers.

        Raises:
            ChipFault: the chip did not run the frame.
        """
        prepared = self._wake[only_new, self._must_halt, not self._fifo_clean]
        self._must_halt = False
        self._transport.exchange(prepared.message)
        received = prepared.received
        # The common case by far: the timer ran out and nothing was received.
        if received[1] & 0xA3 == mfrc522.IRQ_TIMER and not received[3]:
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
                prepared = self._prepared(walk.frame())
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
        return Answer.parse(self._settle(prepared, self._again, _READ_AGAIN_SECONDS))

    def _settle(self, prepared: Prepared, again: Prepared, wait_seconds: float, reads: int = _READS) -> Sequence[int]:
        """Give the answer once it is complete, reading again while it is not."""
        for _ in range(reads):
            received = prepared.received
            if received[1] & 0x80 or received[3] > mfrc522.FIFO_BYTES:
                raise ChipFault  # bits that no chip sets: the line reads FF
            if not Answer.parse(received).pending:
                return received
            self._sleep(wait_seconds)
            prepared = again
            self._transport.exchange(prepared.message)
        raise ChipFault

    def authenticate(self, kind: int, block: int, key: bytes, uid_part: bytes) -> bool:
        """Open a MIFARE Classic sector of the selected card; False when it does not know the key."""
        prepared = self._prepared(mfrc522_memory.authenticate(kind, block, key, uid_part))
        again = self._prepared(Frame(((mfrc522_memory.read_authentication(), 0),), 0, 0))
        self._transport.exchange(prepared.message)
        return mfrc522_memory.is_authenticated(self._settle(prepared, again, _LONG_READ_AGAIN_SECONDS))

    def read_block(self, block: int) -> bytes | None:
        """Read 16 bytes of the selected card; None when it refuses or has left."""
        prepared = self._prepared(mfrc522_memory.read_memory(block))
        again = self._prepared(Frame(((mfrc522.read_answer(18), 0),), 0, 0))
        self._transport.exchange(prepared.message)
        answer = Answer.parse(self._settle(prepared, again, _LONG_READ_AGAIN_SECONDS))
        self._fifo_clean = False
        return answer.data[:-2] if answer.clean and len(answer.data) == 18 and has_good_crc(answer.data) else None

    def exchange_frame(self, frame: bytes, answer_bytes: int, timeout_us: int) -> bytes | None:
        """Send a frame to the selected card and give its answer, both without CRC_A; None for silence or damage."""
        ticks = min(timeout_us // mfrc522.TIMER_TICK_US + 1, 0xFFFF)
        # A frame of n bytes is on air for n * 85 us and a little; the rest is the card's thinking.
        wait_us = min(len(frame) * 85 + 800, 60_000)
        data = with_crc(frame)
        prepared = self._prepared(
            mfrc522.transceive(data, answer_bytes=answer_bytes, wait_us=wait_us, timeout_ticks=ticks)
        )
        again = self._prepared(Frame(((mfrc522.read_answer(answer_bytes), 0),), 0, 0))
        self._transport.exchange(prepared.message)
        reads = _READS + timeout_us // int(_LONG_READ_AGAIN_SECONDS * 1e6) + 4
        answer = Answer.parse(self._settle(prepared, again, _LONG_READ_AGAIN_SECONDS, reads))
        self._fifo_clean = False
        return answer.data[:-2] if answer.clean and has_good_crc(answer.data) else None

    def exchange_bare(self, frame: bytes, answer_bytes: int, last_bits: int = 0) -> Answer:
        """Send a frame as it is and give whatever came back; `last_bits` of its last byte are sent, 0 for all."""
        prepared = self._prepared(
            mfrc522.transceive(
                frame,
                answer_bytes=answer_bytes,
                wait_us=len(frame) * 85 + 800,
                last_bits=last_bits,
                timeout_ticks=_BARE_TIMEOUT_TICKS,
            )
        )
        again = self._prepared(Frame(((mfrc522.read_answer(answer_bytes), 0),), 0, 0))
        self._transport.exchange(prepared.message)
        answer = Answer.parse(self._settle(prepared, again, _LONG_READ_AGAIN_SECONDS, 2 * _READS))
        self._fifo_clean = False
        return answer

    def end_session(self) -> None:
        """Halt the card, switch the cipher off and go back to the short time-out."""
        self._transport.exchange(message_of(mfrc522_memory.end_session().steps))
        self._must_halt = False

    def close(self) -> None:
        """Give the line back; the field stays as it is."""
        self._transport.close()
