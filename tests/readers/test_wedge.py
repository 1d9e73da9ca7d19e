"""Keyboard-wedge readers; the far end types key events as the kernel hands them out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from gateway.cards.encodings import encode
from gateway.cards.uid import Uid
from gateway.errors import ConfigError
from gateway.protocols.key_layouts import LAYOUTS
from gateway.protocols.wedge import EV_KEY, keys_of
from gateway.readers.base import CardRefused, ReaderEvent
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


KEY = {letter: code for code, letter in LAYOUTS["us"].plain.items()}
KEYPAD_CODES = dict(zip("7894561230", (71, 72, 73, 75, 76, 77, 79, 80, 81, 82), strict=True))
SHIFT, CAPS, NUM, ALT, CTRL, ENTER, DOWN, F2, KEYPAD_ENTER = 42, 58, 69, 56, 29, 28, 108, 60, 96


def tap(*codes: int) -> list[tuple[int, int]]:
    return [event for code in codes for event in ((code, 1), (code, 0))]


def plain(text: str) -> list[tuple[int, int]]:
    return tap(*(KEY[letter] for letter in text))


def by_alt(text: str) -> list[tuple[int, int]]:
    events: list[tuple[int, int]] = []
    for letter in text:
        events += [(ALT, 1), *tap(*(KEYPAD_CODES[digit] for digit in f"{ord(letter):03d}")), (ALT, 0)]
    return events


# Key events as readers in the field send them.
FIELD: dict[str, tuple[list[tuple[int, int]], dict[str, object], bytes]] = {
    "CapsLock around the letters": ([*tap(CAPS), *plain("deadbeef"), *tap(CAPS, ENTER)], {}, FOUR),
    "CapsLock after Enter": ([*plain("deadbeef"), *tap(ENTER, CAPS)], {}, FOUR),
    "NumLock around each digit": (
        [event for digit in "3735928559" for event in tap(NUM, KEYPAD_CODES[digit], NUM)] + tap(KEYPAD_ENTER),
        {"encoding": "8h10d"},
        FOUR,
    ),
    "Alt codes": ([*by_alt("DEADBEEF"), *tap(ENTER)], {}, FOUR),
    "Alt codes to the end": ([*by_alt("DEADBEEF\r")], {}, FOUR),
    "cursor down ends": ([*plain("deadbeef"), *tap(DOWN)], {"end_key": "down"}, FOUR),
    "Ctrl+J ends": ([*plain("deadbeef"), (CTRL, 1), *tap(KEY["j"]), (CTRL, 0)], {}, FOUR),
    "F2 first": ([*tap(F2), *plain("deadbeef"), *tap(ENTER)], {"ignore_keys": ["F2"]}, FOUR),
    "French": (keys_of("DEADBEEF", "fr"), {"layout": "fr"}, FOUR),
    "Belgian digits": (keys_of("3735928559", "be"), {"layout": "be", "encoding": "8h10d"}, FOUR),
    "German": (keys_of("DEADBEEF", "de"), {"layout": "de"}, FOUR),
    "a pattern": (keys_of("ID=DEADBEEF;7"), {"pattern": "ID=([0-9A-F]+);.*"}, FOUR),
}


@pytest.mark.parametrize("name", FIELD)
def test_readers_of_the_field_are_read(name: str) -> None:
    events, options, value = FIELD[name]
    made = WedgeBench(Options(**options))
    made.reader.open()
    for code, state in events:
        made.wires.keyboard(PORT).press(EV_KEY, code, state)
    [read] = made.run(250)
    assert read.number.value == value
    assert made.reader.vitals.errors == 0


def test_a_stuck_shift_costs_one_line(bench: WedgeBench) -> None:
    keyboard = bench.wires.keyboard(PORT)
    for code, state in [(54, 1), *tap(KEY["1"], ENTER), *plain("deadbeef"), *tap(ENTER)]:
        keyboard.press(EV_KEY, code, state)
    refused, read = bench.run(200)
    assert isinstance(refused, CardRefused)
    assert read.number.value == FOUR


def test_a_dropped_line_says_which_key_spoilt_it(bench: WedgeBench) -> None:
    for code, state in [*plain("deadbeef"), *tap(DOWN, ENTER)]:
        bench.wires.keyboard(PORT).press(EV_KEY, code, state)
    assert bench.run(200) == []
    assert "the key down" in bench.reader.vitals.detail
    [drop] = bench.reader.take_drops()
    assert "end_key" in drop


def test_events_that_the_kernel_dropped_cost_their_line_and_are_told(bench: WedgeBench) -> None:
    keyboard = bench.wires.keyboard(PORT)
    for code, state in plain("dead"):
        keyboard.press(EV_KEY, code, state)
    keyboard.press(0, 3, 0)
    for code, state in [*plain("beef"), *tap(ENTER), *plain("deadbeef"), *tap(ENTER)]:
        keyboard.press(EV_KEY, code, state)
    [read] = bench.run(200)
    assert read.number.value == FOUR
    assert bench.reader.vitals.counters == {"taps lost": 1}
    assert "taps were lost" in bench.reader.vitals.detail


def test_settings_that_name_no_key_or_layout_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Options(layout="dvorak", end_key="any", ignore_keys=["f99"], digits=-1)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "digits",
        "layout",
        "end_key",
        "ignore_keys",
    ]
