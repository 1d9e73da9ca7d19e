"""Keyboard-wedge readers; the far end types key events as the kernel hands them out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from gateway.cards.encodings import encode
from gateway.cards.uid import Uid
from gateway.protocols.wedge import EV_KEY, keys_of
from gateway.readers.base import ReaderEvent
from gateway.readers.wedge import Options, make
from gateway.simulator.chips import SimulatedTransports
from tests.readers.contract import FOUR, HeldUpContract, ReaderContract

PORT = "/dev/input/by-id/usb-reader-event-kbd"


class WedgeBench:
    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.wires = SimulatedTransports()
        self.reader = make("desk", PORT, self.options, self.wires)
        self._babbling = threading.Event()

    def enter(self, uid: bytes) -> None:
        self.wires.type_line(PORT, encode(Uid(uid), self.options.encoding))

    def leave(self) -> None:
        """Nobody notices."""

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        events: list[ReaderEvent] = []
        end = time.monotonic() + min(milliseconds, 300) / 1000
        while time.monotonic() < end:
            events += self.reader.poll()
        return events

    def kill(self) -> None:
        self.wires.keyboard(PORT).unplug()

    def revive(self) -> None:
        self.wires.keyboard(PORT).plug()

    def stick(self) -> None:
        self.wires.keyboard(PORT).press(EV_KEY, 32, 1)

    def babble(self) -> None:
        self._babbling.set()
        threading.Thread(target=self._babble, daemon=True).start()

    def _babble(self) -> None:
        while self._babbling.is_set():
            for code in range(1, 120):
                self.wires.keyboard(PORT).press(EV_KEY, code, 1)
            time.sleep(0.001)

    def calm(self) -> None:
        self._babbling.clear()
        time.sleep(0.01)
        self.revive()


@pytest.fixture
def bench() -> Iterator[WedgeBench]:
    made = WedgeBench()
    made.reader.open()
    yield made
    made.reader.close()


class TestContract(HeldUpContract, ReaderContract):
    says_gone = False

    @pytest.fixture
    def bench(self) -> WedgeBench:
        return WedgeBench()


def test_a_lost_enter_does_not_lose_the_tap(bench: WedgeBench) -> None:
    keyboard = bench.wires.keyboard(PORT)
    keyboard.press(1, 0, 0)
    for code, value in keys_of("DEADBEEF")[:-2]:
        keyboard.press(1, code, value)
    [read] = bench.run(300)
    assert read.number.value == FOUR


def test_a_held_key_is_typed_once(bench: WedgeBench) -> None:
    keyboard = bench.wires.keyboard(PORT)
    for _ in range(5):
        keyboard.press(1, 32, 2)  # autorepeat of D
    bench.enter(FOUR)
    [read] = bench.run(200)
    assert read.number.value == FOUR


def test_a_key_that_no_number_has_spoils_the_line(bench: WedgeBench) -> None:
    bench.wires.keyboard(PORT).press(1, 59, 1)  # F1
    bench.enter(FOUR)
    assert bench.run(200) == []
    assert bench.reader.vitals.errors == 1


@pytest.mark.parametrize("encoding", ["dec-lsb", "8h10d", "w34"])
def test_decimal_forms_are_typed_and_read(encoding: str) -> None:
    bench = WedgeBench(Options(encoding=encoding))
    bench.reader.open()
    bench.enter(FOUR)
    [read] = bench.run(200)
    assert read.number.value == FOUR
