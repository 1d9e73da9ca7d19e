"""The frames of an MFRC522 and their answers: polling for cards, selecting one, reading its memory.

What looks for cards comes twice: `wake_up` keeps the bus until the answer is there, `wake_up_in_parts` gives it away
while the frame is on air. Frames on which a card works for an unknown time wait for the interrupt pin when there is one
that works, and otherwise ask again until the answer is complete.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.cards.iso14443 import cascade_levels, has_good_crc, with_crc
from gateway.errors import ReaderOffline, RetryError
from gateway.protocols import mfrc522, mfrc522_memory
from gateway.protocols.mfrc522 import IRQ_RX, IRQ_TIMER, Answer, Frame, Health, Register
from gateway.protocols.selection import Selection
from gateway.readers.rc522.frames import FrameSet, InParts, Prepared, message_of
from gateway.readers.rc522.line import Rc522Line
from gateway.transports.irq_line import IrqLine
from gateway.transports.reset_line import ResetLine
from gateway.transports.spi import SpiTransport

log = logging.getLogger(__name__)

# What is read too early is mostly a little too early; a card that works on a command takes milliseconds.
_SHORT_WAITS = (50e-6, 50e-6, 50e-6, 50e-6)
_LONG_WAITS = (0.15e-3, 0.3e-3, 0.6e-3, 1.5e-3)
_BARE_TIMEOUT_TICKS = 1000 // mfrc522.TIMER_TICK_US  # ten times what a card takes to begin
_BYTE_US = 85
_IRQ_ENDS = IRQ_RX | IRQ_TIMER
_IRQ_SPARE_US = 5000
_IRQ_PROBES = 2
_IRQ_QUIET_SECONDS = 0.001
_IRQ_PROBE_SECONDS = 0.02
_IRQ_GLANCE_SECONDS = 0.02
_IRQ_MISSES = 3

_Result = TypeVar("_Result")


class ChipFault(RetryError):
    """The chip answers nonsense or has lost its settings; check its health."""


class Rc522Chip(Rc522Line):
    """The chip as its reader uses it.

    Args:
        irq: the chip's interrupt pin; it is tried at every start.

    Attributes:
        in_parts: whether frames give the bus away while they are on air; for a bus of several readers.
        irq_fault: why the interrupt pin is not used, empty when it is, or when there is none.
    """

    def __init__(
        self,
        transport: SpiTransport,
        speed_hz: int,
        reset: ResetLine | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now_ns: Callable[[], int] = time.monotonic_ns,
        irq: IrqLine | None = None,
    ) -> None:
        self.in_parts = False
        self.irq_fault = ""
        self._irq = irq
        self._irq_works = False
        self._irq_misses = 0
        self._fifo_clean = False
        self._must_halt = False
        super().__init__(transport, speed_hz, reset, sleep, now_ns)

    def _prepare(self) -> None:
        super()._prepare()
        self._frames = {in_parts: FrameSet(gathers=self.gathers, in_parts=in_parts) for in_parts in (False, True)}

    def _forget_cards(self) -> None:
        self._fifo_clean = self._must_halt = False

    def start(self) -> Health:
        health = super().start()
        self._irq_works = False
        self.irq_fault = ""
        if self._irq is not None and not health.fault:
            self.irq_fault = self._try_irq(self._irq)
            self._irq_works = not self.irq_fault
            self._irq_misses = 0
            if self.irq_fault:
                log.warning("the interrupt pin of the chip on %s is not used: %s", self._transport.port, self.irq_fault)
        return health

    def _try_irq(self, irq: IrqLine) -> str:
        """Run frames of known length and say what is wrong with the pin, empty when each gave its edge and no more."""
        try:
            irq.open()
        except ReaderOffline as error:
            return str(error)
        probe = Prepared(mfrc522.announced(mfrc522.wake_up(), _IRQ_ENDS), gathers=self.gathers, in_parts=True)
        # A card may answer: what follows must send it back to rest first.
        self._forget_cards()
        self._must_halt = True
        for _ in range(_IRQ_PROBES):
            irq.drain()
            if irq.wait(_IRQ_QUIET_SECONDS):
                return "it changes while the chip is idle; check irq_gpio and its wire"
            self._transport.exchange(probe.parts[0][0])
            came = irq.wait(_IRQ_PROBE_SECONDS)
            self._transport.exchange(probe.parts[-1][0])
            if not came:
                return "no edge arrives when the chip is done; check irq_gpio and its wire"
        return ""

    def run(self, work: InParts[_Result]) -> _Result:
        """Do it all at once, asleep while it waits."""
        try:
            while True:
                self._sleep(next(work))
        except StopIteration as done:
            result: _Result = done.value
            return result

    def _send(self, prepared: Prepared) -> InParts[None]:
        for message, seconds in prepared.parts:
            self._transport.exchange(message)
            if seconds:
                yield seconds

    def wake_up(self, *, only_new: bool = False) -> Answer | None:
        """Ask for cards, first sending the selected one to HALT; None when nobody answers.

        Raises:
            ChipFault: the chip did not run the frame.
        """
        return self.run(self.wake_up_in_parts(only_new=only_new))

    def wake_up_in_parts(self, *, only_new: bool = False) -> InParts[Answer | None]:
        prepared = self._frames[self.in_parts].wake[only_new, self._must_halt, not self._fifo_clean]
        self._must_halt = False
        self._fifo_clean = False
        yield from self._send(prepared)
        received = prepared.received
        # By far the most common case: the timer ran out and nothing was received.
        if received[1] & 0xA3 == IRQ_TIMER and not received[3]:
            self._fifo_clean = True
            return None
        answer = yield from self._finish(prepared)
        return None if answer.silent else answer

    def select_any(self) -> Selection:
        """Walk the cards in READY down to one and select it.

        Raises:
            ChipFault: the chip did not run a frame.
        """
        return self.run(self.select_any_in_parts())

    def select_any_in_parts(self) -> InParts[Selection]:
        walk = Selection()
        frames = self._frames[self.in_parts]
        # 32 bits a level, one frame each at worst, and one SELECT.
        for _ in range(3 * 34):
            if walk.part:
                prepared = frames.select(walk.level, walk.part)
            elif walk.partial:
                prepared = frames.prepare(walk.frame())
            else:
                prepared = frames.anticollision[walk.level]
            yield from self._send(prepared)
            answer = yield from self._finish(prepared)
            walk.feed(answer)
            if walk.sak is not None or walk.failed:
                break
        self._must_halt = walk.sak is not None
        return walk

    def select_known(self, uid: bytes) -> bool:
        """Select this card among those in READY; True when it answered."""
        return self.run(self.select_known_in_parts(uid))

    def select_known_in_parts(self, uid: bytes) -> InParts[bool]:
        walk = Selection()
        for level, part in enumerate(cascade_levels(uid)):
            walk.take(part)
            prepared = self._frames[self.in_parts].select(level, part)
            yield from self._send(prepared)
            answer = yield from self._finish(prepared)
            walk.feed(answer)
            if walk.failed:
                return False
        self._must_halt = walk.sak is not None
        return self._must_halt

    def _finish(self, prepared: Prepared) -> InParts[Answer]:
        again = self._frames[self.in_parts].again
        received = yield from self._settle(prepared, again, _SHORT_WAITS)
        return Answer.parse(received)

    def _settle(self, prepared: Prepared, again: Prepared, waits: Sequence[float]) -> InParts[Sequence[int]]:
        """Return the answer once it is complete, reading again after each wait while it is not."""
        for wait_seconds in waits:
            received = prepared.received
            if received[1] & 0x80 or received[3] > mfrc522.FIFO_BYTES:
                raise ChipFault  # bits that no chip sets: the line reads FF
            if not Answer.parse(received).pending:
                return received
            yield wait_seconds
            prepared = again
            yield from self._send(prepared)
        raise ChipFault

    def _converse(self, frame: Frame, read: bytes, longest_us: int, *, is_open: bool = False) -> Sequence[int]:
        """Run a long frame and return its answer.

        Args:
            read: the bytes that read the answer again.
            longest_us: how long the chip's timer lets the frame take.
            is_open: whether nobody knows how long the card will work on it, so that the interrupt pin pays; a frame of
                known length is over when its wait is, and two more transfers and a call would only cost.
        """
        again = Prepared(Frame(((read, 0),), 0, 0), gathers=self.gathers)
        if is_open and self._irq is not None and self._irq_works:
            prepared = Prepared(mfrc522.announced(frame, _IRQ_ENDS), gathers=self.gathers, in_parts=True)
            self._irq.drain()
            self._transport.exchange(prepared.parts[0][0])
            self._await_edge(self._irq, (longest_us + _IRQ_SPARE_US) / 1e6)
            self._transport.exchange(prepared.parts[-1][0])
        else:
            prepared = Prepared(frame, gathers=self.gathers)
            self._transport.exchange(prepared.parts[0][0])
        many = longest_us // int(_LONG_WAITS[-1] * 1e6)
        return self.run(self._settle(prepared, again, (*_LONG_WAITS, *_LONG_WAITS[-1:] * many)))

    def _await_edge(self, irq: IrqLine, longest_seconds: float) -> None:
        """Wait for the end of a frame; a wire that has broken costs no more than a glance."""
        while longest_seconds > 0:
            if irq.wait(min(longest_seconds, _IRQ_GLANCE_SECONDS)):
                self._irq_misses = 0
                return
            longest_seconds -= _IRQ_GLANCE_SECONDS
            if self._read(Register.COM_IRQ) & _IRQ_ENDS:
                break
        self._irq_misses += 1
        if self._irq_misses >= _IRQ_MISSES:
            self._irq_works = False
            self.irq_fault = f"{_IRQ_MISSES} edges in a row did not come; check its wire"
            log.warning("the interrupt pin of the chip on %s is not used: %s", self._transport.port, self.irq_fault)

    def authenticate(self, kind: int, block: int, key: bytes, uid_part: bytes) -> bool:
        """Open a MIFARE Classic sector of the selected card; False when it does not know the key."""
        received = self._converse(
            mfrc522_memory.authenticate(kind, block, key, uid_part),
            mfrc522_memory.read_authentication(),
            mfrc522_memory.LONGEST_US,
        )
        return mfrc522_memory.is_authenticated(received)

    def read_block(self, block: int) -> bytes | None:
        """Read 16 bytes of the selected card; None when it refuses or has left."""
        frame = mfrc522_memory.read_memory(block)
        answer = Answer.parse(self._converse(frame, mfrc522.read_answer(18), mfrc522_memory.LONGEST_US))
        self._fifo_clean = False
        return answer.data[:-2] if answer.clean and len(answer.data) == 18 and has_good_crc(answer.data) else None

    def exchange_frame(self, frame: bytes, answer_bytes: int, timeout_us: int) -> bytes | None:
        """Send a frame to the selected card and return its answer, both without CRC_A; None for silence or damage."""
        ticks = min(timeout_us // mfrc522.TIMER_TICK_US + 1, 0xFFFF)
        # A frame of n bytes is on air for n * 85 us and a little; the rest is the card's thinking.
        wait_us = min(len(frame) * _BYTE_US + 800, 60_000)
        received = self._converse(
            mfrc522.transceive(with_crc(frame), answer_bytes=answer_bytes, wait_us=wait_us, timeout_ticks=ticks),
            mfrc522.read_answer(answer_bytes),
            wait_us + timeout_us + answer_bytes * _BYTE_US,
            is_open=True,
        )
        answer = Answer.parse(received)
        self._fifo_clean = False
        return answer.data[:-2] if answer.clean and has_good_crc(answer.data) else None

    def exchange_bare(self, frame: bytes, answer_bytes: int, last_bits: int = 0) -> Answer:
        """Send a frame as it is and return whatever came back; `last_bits` of its last byte are sent, 0 for all."""
        wait_us = len(frame) * _BYTE_US + 800
        received = self._converse(
            mfrc522.transceive(
                frame,
                answer_bytes=answer_bytes,
                wait_us=wait_us,
                last_bits=last_bits,
                timeout_ticks=_BARE_TIMEOUT_TICKS,
            ),
            mfrc522.read_answer(answer_bytes),
            wait_us + (_BARE_TIMEOUT_TICKS * mfrc522.TIMER_TICK_US) + answer_bytes * _BYTE_US,
        )
        self._fifo_clean = False
        return Answer.parse(received)

    def end_session(self) -> None:
        """Halt the card, switch the cipher off and go back to the short time-out."""
        self._transport.exchange(message_of(mfrc522_memory.end_session().steps))
        self._must_halt = False

    def close(self) -> None:
        super().close()
        if self._irq is not None:
            self._irq.close()
