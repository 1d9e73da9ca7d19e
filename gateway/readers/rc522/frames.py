"""Radio frames with their buffers, for a bus of one reader and for a bus of several.

A whole frame is one message with its waits inside: one system call, and the bus is taken until the answer is there. A
frame in parts is cut at its waits, so that while it is on air others on the bus go on: one call to start it, one to
collect the answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from typing import TypeVar

from gateway.protocols import mfrc522
from gateway.protocols.mfrc522 import Frame, Step
from gateway.transports.spi import SpiMessage, Transfer

_Result = TypeVar("_Result")

InParts = Generator[float, None, _Result]
"""Work on the bus that yields the seconds for which it does not need it."""


def message_of(steps: Sequence[Step]) -> SpiMessage:
    return SpiMessage([Transfer(data, delay_us) for data, delay_us in steps])


def cut(frame: Frame) -> list[tuple[tuple[Step, ...], float]]:
    """Cut a frame after each wait; returns the steps of each part and the seconds to wait after it."""
    parts: list[tuple[tuple[Step, ...], float]] = []
    begin = 0
    for place, (data, delay_us) in enumerate(frame.steps):
        if delay_us:
            parts.append(((*frame.steps[begin:place], (data, 0)), delay_us / 1e6))
            begin = place + 1
    if begin < len(frame.steps):
        parts.append((frame.steps[begin:], 0.0))
    return parts


class Prepared:
    """One frame with its buffers.

    Attributes:
        data: what the frame sends, after one address byte.
        parts: messages, and the seconds to wait after each; a whole frame has one part.
    """

    __slots__ = ("_answers", "_gathers", "data", "parts")

    def __init__(self, frame: Frame, *, gathers: bool = True, in_parts: bool = False) -> None:
        frame = frame if gathers else mfrc522.one_by_one(frame)
        pieces = cut(frame) if in_parts else [(frame.steps, 0.0)]
        self.parts = tuple((message_of(steps), seconds) for steps, seconds in pieces)
        sent = [buffer for message, _ in self.parts for buffer in message.tx]
        received = [buffer for message, _ in self.parts for buffer in message.rx]
        self.data = sent[frame.data_at]
        self._gathers = gathers
        self._answers = received[frame.read_at :]

    @property
    def received(self) -> Sequence[int]:
        """Return the answer as a gather read gives it: one byte of no register, then the registers."""
        return self._answers[0] if self._gathers else [0, *(answer[1] for answer in self._answers)]


class FrameSet:
    """The frames that repeat, prepared once for one way of using the bus."""

    def __init__(self, *, gathers: bool, in_parts: bool) -> None:
        def prepare(frame: Frame) -> Prepared:
            return Prepared(frame, gathers=gathers, in_parts=in_parts)

        self.prepare = prepare
        # Keys: whether only new cards are polled, a selected card is halted first, the FIFO may hold data.
        self.wake = {
            (new, after_halt, flush): prepare(
                mfrc522.join(mfrc522.halt(), mfrc522.wake_up(only_new=new, flush=flush))
                if after_halt
                else mfrc522.wake_up(only_new=new, flush=flush)
            )
            for new, after_halt, flush in itertools.product((False, True), repeat=3)
        }
        self.anticollision = tuple(prepare(mfrc522.anticollision(level)) for level in range(3))
        self.again = prepare(Frame(((mfrc522.read_answer(5), 0),), 0, 0))
        self._select = prepare(mfrc522.select(0, bytes(4)))

    def select(self, level: int, part: bytes) -> Prepared:
        # The first byte of the step is the FIFO's address.
        for place, value in enumerate(mfrc522.select_bytes(level, part), 1):
            self._select.data[place] = value
        return self._select
