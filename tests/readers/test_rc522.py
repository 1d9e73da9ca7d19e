"""The RC522 driver against the emulated chip, on a clock that only the two of them see."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigError, ReaderOffline
from gateway.readers.base import CardGone, CardRead, ReaderEvent, parse_options
from gateway.readers.rc522.chip import Rc522Chip
from gateway.readers.rc522.driver import Options, Rc522Reader
from gateway.simulator import chips_rc522
from gateway.simulator import iso14443_cards as cards
from gateway.simulator.chips_rc522 import Mfrc522Chip
from gateway.simulator.clocks import VirtualClock
from gateway.transports.memory import MemorySpi
from gateway.transports.reset_line import ResetLine
from tests.readers.contract import FOUR, OTHER, SEVEN, ReaderContract, run_on, taps

TEN = bytes.fromhex("04 11 22 33 44 55 66 77 88 99")


class Rc522Bench:
    def __init__(self, options: Options | None = None, reset: ResetLine | None = None) -> None:
        options = options or Options()
        self.clock = VirtualClock()
        self.chip = Mfrc522Chip(self.clock)
        self.wire = MemorySpi("/dev/spidev0.0", self.chip, self.clock.sleep)
        self.driver = Rc522Chip(self.wire, options.speed_hz, reset, self.clock.sleep, self.clock.now_ns)
        self.reader = Rc522Reader("lane-1", self.driver, options, self.clock.now_ns)
        self.now_ns = self.clock.now_ns

    def enter(self, uid: bytes) -> None:
        self.chip.field.enter(cards.classic_1k(uid) if len(uid) == 4 else cards.ntag(uid))

    def leave(self) -> None:
        self.chip.field.leave()

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        return run_on(self.clock, self.reader, milliseconds)

    def kill(self) -> None:
        self.chip.broken = 0xFF

    def revive(self) -> None:
        self.chip.broken = None
        self.chip.power_cycle()


@pytest.fixture
def bench() -> Rc522Bench:
    return Rc522Bench()


@pytest.fixture
def opened(bench: Rc522Bench) -> Rc522Bench:
    bench.reader.open()
    return bench


class TestContract(ReaderContract):
    @pytest.fixture
    def bench(self) -> Rc522Bench:
        return Rc522Bench()


def numbers(events: list[ReaderEvent]) -> list[bytes]:
    return [event.number.value for event in events if isinstance(event, CardRead)]


def test_an_empty_look_is_seven_transfers_in_one_call(opened: Rc522Bench) -> None:
    opened.reader.poll()
    transfers, messages = opened.wire.transfers, opened.wire.messages
    opened.reader.poll()
    assert opened.wire.transfers - transfers == 7
    assert opened.wire.messages - messages == 1


@pytest.mark.parametrize(
    ("card", "kind", "limit_ms"),
    [
        (cards.classic_1k(FOUR), "mifare-classic-1k", 4.0),
        (cards.classic_4k(OTHER), "mifare-classic-4k", 4.0),
        (cards.classic_1k(SEVEN), "mifare-classic-1k", 6.0),
        (cards.ntag(SEVEN), "ntag", 6.0),
        (cards.desfire(SEVEN), "desfire", 6.0),
        (cards.Card(cards.NTAG, TEN), "ntag", 8.0),
    ],
)
def test_every_length_and_kind_of_uid_is_read_within_its_air_time(
    opened: Rc522Bench, card: cards.Card, kind: str, limit_ms: float
) -> None:
    entered_ns = opened.chip.field.enter(card)
    [read] = opened.run(20)
    assert isinstance(read, CardRead)
    assert read.number.value == card.uid
    assert read.card_type == kind
    assert (read.seen_ns - entered_ns) / 1e6 < limit_ms


def test_two_cards_at_once_are_both_read_once(opened: Rc522Bench) -> None:
    opened.enter(FOUR)
    opened.enter(bytes.fromhex("DE AD BE E1"))
    assert sorted(numbers(opened.run(1000))) == [bytes.fromhex("DEADBEE1"), FOUR]
    assert opened.reader.vitals.counters["collisions"] >= 1


def test_four_cards_of_one_family_are_told_apart_bit_by_bit(opened: Rc522Bench) -> None:
    stack = [bytes.fromhex(text) for text in ("DEADBEE1", "DEADBEE3", "DEADBEE7", "DEADBEEF")]
    for uid in stack:
        opened.enter(uid)
    assert sorted(numbers(opened.run(1000))) == stack


def test_cards_of_different_length_at_once_are_both_read(opened: Rc522Bench) -> None:
    opened.enter(SEVEN)
    opened.enter(bytes.fromhex("04 A1 B2 C3 D4 E5 F7"))
    opened.enter(FOUR)
    assert len(set(numbers(opened.run(1000)))) == 3


def test_a_new_card_beside_a_resting_one_is_seen_at_the_next_cycle(opened: Rc522Bench) -> None:
    opened.enter(FOUR)
    opened.run(500)
    entered_ns = opened.clock.now_ns()
    opened.enter(OTHER)
    [read] = taps(opened.run(50))
    assert isinstance(read, CardRead)
    assert read.number.value == OTHER
    assert read.seen_ns - entered_ns < 12e6


def test_a_newcomer_is_seen_beside_a_card_that_has_been_lying_there_for_a_minute(opened: Rc522Bench) -> None:
    opened.enter(FOUR)
    assert numbers(opened.run(60_000)) == [FOUR]
    assert opened.reader.pause_seconds == 0.02
    opened.enter(OTHER)
    assert numbers(opened.run(50)) == [OTHER]
    opened.leave()
    assert [type(event) for event in opened.run(300)] == [CardGone, CardGone]


def test_one_of_two_resting_cards_leaves_and_only_that_one_is_gone(opened: Rc522Bench) -> None:
    first, second = cards.classic_1k(FOUR), cards.ntag(SEVEN)
    opened.chip.field.enter(first)
    opened.chip.field.enter(second)
    opened.run(300)
    opened.chip.field.leave(first)
    assert [type(event) for event in opened.run(300)] == [CardGone]
    opened.chip.field.enter(first)
    assert numbers(opened.run(100)) == [FOUR]


def test_a_flicker_shorter_than_the_rearm_time_is_no_second_tap(opened: Rc522Bench) -> None:
    opened.enter(FOUR)
    opened.run(100)
    opened.leave()
    assert opened.run(40) == []
    opened.enter(FOUR)
    assert opened.run(300) == []


def test_removal_is_told_after_the_rearm_time_and_before_twice_of_it(opened: Rc522Bench) -> None:
    opened.enter(FOUR)
    opened.run(100)
    left_ns = opened.clock.now_ns()
    opened.leave()
    [gone] = opened.run(300)
    # The card was last seen up to two looks before it left.
    assert 45e6 < gone.seen_ns - left_ns < 100e6


def test_a_brown_out_is_repaired_within_the_poll_that_meets_it(opened: Rc522Bench) -> None:
    opened.run(100)
    opened.chip.power_cycle()
    opened.enter(FOUR)
    assert numbers(opened.run(30)) == [FOUR]
    assert opened.reader.vitals.resets == 1
    assert opened.reader.vitals.state == "ready"


def test_a_card_resting_through_a_brown_out_is_still_one_presentation(opened: Rc522Bench) -> None:
    opened.enter(FOUR)
    opened.run(100)
    opened.chip.power_cycle()
    assert opened.run(1000) == []


def test_a_stuck_cipher_bit_is_found_by_the_health_check_and_cleared(opened: Rc522Bench) -> None:
    opened.run(100)
    opened.chip._registers[0x08] |= 0x08
    opened.run(1100)
    assert opened.reader.vitals.resets == 1
    assert "cipher" in opened.reader.vitals.detail


@pytest.mark.parametrize("level", [0x00, 0xFF])
def test_a_line_that_only_shows_one_level_is_an_absent_reader(bench: Rc522Bench, level: int) -> None:
    bench.chip.broken = level
    with pytest.raises(ReaderOffline, match="wiring"):
        bench.reader.open()


class _LongWires:
    """Corrupts register reads above a speed, as long wires do."""

    def __init__(self, chip: Mfrc522Chip, wire: MemorySpi | None, limit_hz: int) -> None:
        self.chip, self.wire, self.limit_hz = chip, wire, limit_hz

    def transfer(self, data: bytes) -> bytes:
        answer = self.chip.transfer(data)
        if self.wire is not None and self.wire.speed_hz > self.limit_hz:
            return bytes(value | 0x04 for value in answer)
        return answer


def test_wires_too_long_for_the_speed_slow_the_bus_down(bench: Rc522Bench) -> None:
    wires = _LongWires(bench.chip, bench.wire, 1_000_000)
    bench.wire._chip = wires
    bench.reader.open()
    assert bench.wire.speed_hz == 1_000_000
    bench.enter(SEVEN)
    assert numbers(bench.run(30)) == [SEVEN]


def test_pace_slows_down_after_ten_quiet_seconds_and_quickens_with_the_next_card(opened: Rc522Bench) -> None:
    assert opened.reader.pause_seconds == 0.0005
    opened.run(11_000)
    assert opened.reader.pause_seconds == 0.02
    opened.enter(FOUR)
    opened.run(20)
    assert opened.reader.pause_seconds == 0.0005


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Options(poll_ms=500, rearm_ms=1)
    assert caught.value.problems == ["poll_ms: must be from 0 to 100", "rearm_ms: must be from 20 to 10000"]


def test_options_of_a_wrong_type_are_reported_by_key() -> None:
    seen: list[tuple[str, str]] = []
    options = parse_options("rc522", {"speed_hz": "fast", "colour": 1}, lambda *problem: seen.append(problem))
    assert options == Options()
    assert [key for key, _ in seen] == ["speed_hz", "colour"]


def test_a_line_without_chip_select_pulses_falls_back_to_one_call_a_transfer(bench: Rc522Bench) -> None:
    bench.wire.honours_cs_change = False
    bench.reader.open()
    assert bench.wire.single
    bench.enter(SEVEN)
    assert numbers(bench.run(60)) == [SEVEN]


def test_a_line_that_skips_waits_falls_back_to_one_call_a_transfer(bench: Rc522Bench) -> None:
    bench.wire.honours_delays = False
    bench.reader.open()
    assert bench.wire.single
    bench.enter(FOUR)
    assert numbers(bench.run(60)) == [FOUR]


def test_a_clone_that_does_not_gather_is_read_register_by_register(bench: Rc522Bench) -> None:
    bench.chip.gathers = False
    bench.reader.open()
    assert not bench.driver.gathers
    for uid in (FOUR, SEVEN):
        bench.enter(uid)
    assert sorted(numbers(bench.run(200))) == [SEVEN, FOUR]
    bench.chip.power_cycle()
    assert bench.run(1500) == []
    assert bench.reader.vitals.state == "ready"


def test_a_clone_is_accepted_and_named(bench: Rc522Bench) -> None:
    bench.chip.version = 0x12
    bench.chip.power_cycle()
    bench.reader.open()
    assert "clone" in bench.reader.vitals.detail
    bench.enter(FOUR)
    assert numbers(bench.run(20)) == [FOUR]


class _Pin:
    def __init__(self) -> None:
        self.chip: Mfrc522Chip | None = None
        self.pulses = 0

    def pulse(self) -> None:
        self.pulses += 1
        if self.chip:
            self.chip.power_cycle()


def test_a_hung_chip_is_brought_back_by_its_reset_pin_when_it_is_opened_again() -> None:
    pin = _Pin()
    bench = Rc522Bench(reset=pin)
    pin.chip = bench.chip
    bench.reader.open()
    assert pin.pulses == 0
    bench.chip.hung = True
    with pytest.raises(ReaderOffline):
        bench.run(3000)
    bench.reader.close()
    bench.reader.open()
    assert pin.pulses == 1
    bench.enter(FOUR)
    assert numbers(bench.run(20)) == [FOUR]


@pytest.mark.parametrize(("version", "passed"), [(0x91, True), (0x92, True), (0x12, None)])
def test_the_self_test_compares_with_the_data_sheet_and_leaves_a_working_reader(
    bench: Rc522Bench, version: int, passed: bool | None
) -> None:
    bench.chip.version = version
    bench.chip.power_cycle()
    bench.reader.open()
    assert bench.driver.self_test() is passed
    bench.enter(FOUR)
    assert numbers(bench.run(20)) == [FOUR]


def test_a_chip_with_a_defect_fails_its_self_test(opened: Rc522Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(chips_rc522.SELF_TEST, 0x92, b"\x00" * 63 + b"\x01")
    monkeypatch.setattr("gateway.protocols.mfrc522_self_test.SELF_TEST", {0x92: bytes(64)})
    assert opened.driver.self_test() is False
