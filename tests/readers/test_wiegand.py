"""The Wiegand driver over the records of a pair of pins."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from gateway.access.rules import Reason
from gateway.cards.encodings import decode
from gateway.cards.wiegand import FORMATS
from gateway.errors import ConfigError, ReaderOffline
from gateway.readers.base import CardRead, CardRefused, ReaderEvent, parse_options
from gateway.readers.wiegand import Options, make
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.wiegand_reader import WiegandWires
from gateway.transports.gpio_edges import GpioEdgeLines
from tests.readers.contract import FOUR, OTHER, SEVEN, HeldUpContract, ReaderContract

PORT = "gpiochip:header"
_POLLS_OF_A_WORD = 5


class WiegandBench:
    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, **options: object) -> None:
        self.wires = SimulatedTransports()
        made = Options(**{"d0_gpio": 17, "d1_gpio": 27, **options})
        self.reader = make("door", PORT, made, self.wires)
        self.far: WiegandWires = self.wires.wiegand(PORT, 17, 27)
        self._babbling = threading.Event()

    def enter(self, uid: bytes) -> None:
        self.far.tap(uid)

    def leave(self) -> None:
        """Nobody notices."""

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        """Poll until the time is over, and often enough for a word to end on a machine that is busy."""
        events: list[ReaderEvent] = []
        end = time.monotonic() + min(milliseconds, 250) / 1000
        polls = 0
        while time.monotonic() < end or polls < _POLLS_OF_A_WORD:
            events += self.reader.poll()
            polls += 1
        return events

    def kill(self) -> None:
        self.far.unplug()

    def revive(self) -> None:
        self.far.plug()

    def stick(self) -> None:
        """A reader that hangs is silent."""

    def babble(self) -> None:
        self._babbling.set()
        threading.Thread(target=self._babble, daemon=True).start()

    def _babble(self) -> None:
        while self._babbling.is_set():
            now_ns = time.monotonic_ns()
            self.far.pulse([(now_ns + number, number % 2) for number in range(200)])
            time.sleep(0.001)

    def calm(self) -> None:
        self._babbling.clear()
        time.sleep(0.01)
        self.far.plug()


class TestContract(HeldUpContract, ReaderContract):
    says_gone = False

    @pytest.fixture
    def bench(self) -> WiegandBench:
        return WiegandBench(technology="iso14443a")


@pytest.fixture
def bench() -> Iterator[WiegandBench]:
    made = WiegandBench()
    made.reader.open()
    yield made
    made.reader.close()


def test_words_of_hid_cards_meet_the_column_of_facility_and_card(bench: WiegandBench) -> None:
    for name, encoding, text in (
        ("h10301", "w26", "082,40198"),
        ("corporate-1000-35", "w35", "2345,801234"),
        ("h10304", "w37", "1234,45678"),
        ("corporate-1000-48", "w48", "1234,45678"),
    ):
        facility, card = (int(part) for part in text.split(","))
        bench.far.send(FORMATS[name].word(facility, card), FORMATS[name].bits)
        [read] = bench.run(100)
        assert isinstance(read, CardRead)
        assert read.number == decode(text, encoding)


def test_two_taps_within_a_stall_are_two_numbers(bench: WiegandBench) -> None:
    bench.far.tap(FOUR)
    time.sleep(0.07)
    bench.far.tap(OTHER)
    assert [event.number.value for event in bench.run(100)] == [FOUR, OTHER]


def test_a_tap_that_waited_for_more_than_a_second_is_dropped(bench: WiegandBench) -> None:
    old_ns = time.monotonic_ns() - 2_000_000_000
    bench.far.pulse([(old_ns + place * 1_000_000, 0) for place in range(26)])
    assert bench.run(80) == []
    assert bench.reader.vitals.counters == {"stale": 1}


def test_more_edges_than_the_kernel_keeps_cost_their_words_only(bench: WiegandBench) -> None:
    bench.far.kept = 40
    bench.far.tap(FOUR)
    time.sleep(0.07)
    bench.far.tap(OTHER)
    events = bench.run(100)
    assert [event.number.value for event in events if isinstance(event, CardRead)] in ([], [OTHER])
    bench.far.kept = 1024
    time.sleep(0.03)
    bench.enter(SEVEN)
    assert bench.run(100)[-1].number.value == SEVEN


def test_a_wrong_parity_bit_is_refused_and_counts_as_damage(bench: WiegandBench) -> None:
    word = FORMATS["h10304"].word(1234, 45678)
    bench.far.send(word ^ 1 << 20, 37)
    [refused] = bench.run(100)
    assert isinstance(refused, CardRefused)
    assert refused.reason == Reason.CARD_FORMAT
    assert "parity" in refused.detail
    assert bench.reader.vitals.errors == 1


def test_words_of_a_length_without_parity_are_taken_when_they_are_listed(bench: WiegandBench) -> None:
    bench.far.send(0x1E00A9C3F7, 40)
    [refused] = bench.run(100)
    assert "40 bits" in refused.detail
    listed = WiegandBench(bits=[40], technology="125khz")
    listed.reader.open()
    listed.far.send(0x1E00A9C3F7, 40)
    [read] = listed.run(100)
    assert (read.number.projection, read.number.value.hex()) == ("em4100", "1e00a9c3f7")
    listed.far.send(*_w26())
    [refused] = listed.run(100)
    assert isinstance(refused, CardRefused)


def _w26() -> tuple[int, int]:
    return FORMATS["h10301"].word(82, 40198), 26


def test_keys_are_counted_and_nowhere_else(bench: WiegandBench) -> None:
    bench.far.send(0b0111, 4)
    assert bench.run(80) == []
    assert bench.reader.vitals.counters == {"keys": 1}


def test_noise_on_both_wires_is_told_with_a_cause(bench: WiegandBench) -> None:
    now_ns = time.monotonic_ns()
    bench.far.pulse([(now_ns - 30_000_000 + place * 10_000, place % 2) for place in range(30)])
    assert bench.run(80) == []
    [drop] = bench.reader.take_drops()
    assert "common ground" in drop


def test_a_reader_that_repeats_gives_one_tap() -> None:
    bench = WiegandBench(repeat_ms=500)
    bench.reader.open()
    for _ in range(3):
        bench.enter(FOUR)
        time.sleep(0.06)
    assert len(bench.run(100)) == 1


def test_pins_are_required_and_named() -> None:
    problems: list[str] = []
    assert parse_options("wiegand", {}, lambda key, _message: problems.append(key)) is None
    assert problems == ["d0_gpio", "d1_gpio"]
    with pytest.raises(ConfigError, match="d1_gpio"):
        Options(d0_gpio=4, d1_gpio=4)


def test_a_machine_without_such_a_controller_says_so() -> None:
    with pytest.raises(ReaderOffline, match="GPIO 17 and GPIO 27 cannot be monitored"):
        GpioEdgeLines("gpiochip:no-such-controller", (17, 27)).open()
