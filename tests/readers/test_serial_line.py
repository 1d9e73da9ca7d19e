"""The line driver over a real pseudo terminal and real pyserial."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gateway.access.rules import Reason
from gateway.errors import ConfigError
from gateway.readers.base import CardRead, CardRefused, ReaderEvent
from gateway.readers.serial_line import Options
from gateway.simulator.line_readers import LineReader
from tests.readers.contract import FOUR, OTHER, SEVEN, HeldUpContract, ReaderContract
from tests.readers.serial_bench import PortBench


class LineBench(PortBench):
    line: LineReader

    def __init__(self, driver: str = "serial-line", **options: object) -> None:
        self.line = LineReader(str(options.get("encoding", "hex-msb")))
        super().__init__(driver, self.line, **options)

    def enter(self, uid: bytes) -> None:
        self.line.tap(uid)

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        """Poll until the time is over; a tap that is under way ends it, as the contract gives generous times."""
        return super().run(min(milliseconds, 250))


@pytest.fixture
def bench() -> Iterator[LineBench]:
    made = LineBench()
    made.reader.open()
    yield made
    made.close()


class TestContract(HeldUpContract, ReaderContract):
    says_gone = False

    @pytest.fixture
    def bench(self) -> Iterator[LineBench]:
        made = LineBench()
        yield made
        made.close()


@pytest.fixture
def make_bench() -> Iterator[object]:
    made: list[LineBench] = []

    def build(**options: object) -> LineBench:
        bench = LineBench(**options)
        bench.reader.open()
        made.append(bench)
        return bench

    yield build
    for bench in made:
        bench.close()


@pytest.mark.parametrize("encoding", ["hex-msb", "hex-lsb", "dec-msb", "dec-lsb", "8h10d", "bcc-appended", "w34"])
def test_every_lossless_form_gives_the_same_number(make_bench, encoding: str) -> None:
    bench = make_bench(encoding=encoding)
    bench.enter(OTHER)
    [read] = bench.run(250)
    assert isinstance(read, CardRead)
    assert read.number.value == OTHER


def test_two_lines_in_one_piece_are_two_taps(bench: LineBench) -> None:
    bench.line.send(bench.line.line(FOUR) + bench.line.line(SEVEN))
    assert [event.number.value for event in bench.run(200)] == [FOUR, SEVEN]


def test_a_line_in_many_pieces_is_one_tap(bench: LineBench) -> None:
    whole = bench.line.line(SEVEN)
    for place in range(len(whole)):
        bench.line.send(whole[place : place + 1])
        assert len(bench.reader.poll()) == (place == len(whole) - 1)


def test_a_stray_byte_does_not_spoil_or_delay_the_tap_after_it(bench: LineBench) -> None:
    bench.line.send(b"7")
    assert bench.run(200) == []
    bench.enter(FOUR)
    [read] = bench.run(200)
    assert read.number.value == FOUR
    assert bench.reader.vitals.counters == {"no line end": 1}


def test_the_banner_of_a_restarted_reader_is_no_tap(bench: LineBench) -> None:
    bench.line.send(b"ELA GM4.02\r")
    assert bench.run(100) == []
    assert bench.reader.vitals.resets == 1


def test_a_line_with_noise_in_it_is_dropped_whole(bench: LineBench) -> None:
    bench.line.send(b"01020304\xff05060708\r")
    assert bench.run(100) == []
    assert bench.reader.vitals.errors == 1


def test_text_that_is_no_number_is_refused_without_repeating_it(bench: LineBench) -> None:
    bench.line.send(b"HELLO WORLD\r")
    [event] = bench.run(100)
    assert isinstance(event, CardRefused)
    assert event.reason == Reason.CARD_FORMAT
    assert "HELLO" not in event.detail


def test_a_reader_that_repeats_its_line_gives_one_tap(make_bench) -> None:
    bench = make_bench(repeat_ms=1000)
    bench.line.send(bench.line.line(FOUR) * 3)
    assert len(bench.run(150)) == 1
    bench.enter(OTHER)
    assert len(bench.run(150)) == 1


def test_taps_that_waited_while_the_owner_stalled_are_dropped(bench: LineBench) -> None:
    bench.reader._last_poll_ns -= 2_000_000_000
    bench.enter(FOUR)
    assert bench.run(100) == []
    assert bench.reader.vitals.counters == {"stale": 1}


def test_a_prefix_and_a_pattern_are_cut_off(make_bench) -> None:
    bench = make_bench(prefix="C:", suffix=";", pattern=r"[0-9]{2}-([0-9A-F]+)")
    bench.line.send(b"C:01-DEADBEEF;\r\nX:01-DEADBEEF;\r\n")
    [read] = bench.run(150)
    assert read.number.value == FOUR


def test_a_reader_without_line_ends_is_read_after_a_silence(make_bench) -> None:
    bench = make_bench(ends_by_silence=True)
    bench.line.send(b"DEADBEEF")
    [read] = bench.run(250)
    assert read.number.value == FOUR


def test_wrong_options_are_named_together() -> None:
    with pytest.raises(ConfigError) as caught:
        Options(baud=9601, encoding="hex-middle", pattern="(")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["baud", "encoding", "pattern"]


def test_half_a_line_before_a_stall_and_the_rest_after_it_are_no_number(make_bench) -> None:
    # The owner waits for a slow memory card between the two halves of "04A1B2C3 D4E5F6": no silence was heard.
    bench = make_bench(idle_gap_ms=20)
    bench.line.send(b"04A1B2C3")
    assert bench.reader.poll() == []
    bench.line.send(b"D4E5F6\rDEADBEEF\r")
    bench.reader._last_poll_ns -= 100_000_000
    [read] = bench.run(150)
    assert read.number.value == FOUR
    assert bench.reader.vitals.counters == {"the gateway was busy": 1}


def test_lines_that_end_by_silence_are_not_joined_by_a_stall(make_bench) -> None:
    bench = make_bench(ends_by_silence=True, encoding="number", digits="any")
    bench.line.send(b"4711")
    bench.reader._last_poll_ns -= 100_000_000
    assert bench.run(200) == []
    assert bench.reader.vitals.counters == {"the gateway was busy": 1}
    bench.line.send(b"4711")
    [read] = bench.run(250)
    assert read.number.value == b"4711"


def test_the_end_of_a_line_that_began_in_a_long_stall_is_no_number(bench: LineBench) -> None:
    bench.reader._last_poll_ns -= 2_000_000_000
    bench.line.send(b"04A1B2")
    assert bench.reader.poll() == []
    bench.line.send(b"DEADBEEF\rDEADBEEF\r")
    [read] = bench.run(150)
    assert read.number.value == FOUR
    assert bench.reader.vitals.counters == {"stale": 2}


def test_a_line_that_is_under_way_when_the_port_is_opened_is_no_number() -> None:
    bench = LineBench()
    rest = threading.Thread(target=bench.line.send_split, args=([b"%c" % byte for byte in b"DEADBEEF\r" * 3], 0.002))
    rest.start()
    bench.reader.open()
    rest.join()
    assert bench.run(100) == []
    bench.enter(FOUR)
    assert len(bench.run(100)) == 1
    bench.close()


def test_frames_by_name_and_text_between_stx_and_etx(make_bench) -> None:
    for options, raw in (
        ({"start": "STX", "end": "ETX"}, b"\x02DEADBEEF\r\n\x03"),
        ({"start": ":"}, b":DEADBEEF\r\n"),
        ({"end": "NUL"}, b"DEADBEEF\x00"),
        ({}, b"\x02DEADBEEF\r\n\x03"),
    ):
        bench = make_bench(**options)
        bench.line.send(raw * 2)
        assert [event.number.value for event in bench.run(150)] == [FOUR, FOUR]
        assert bench.reader.vitals.errors == 0


def test_refused_cards_are_told_apart_from_noise(bench: LineBench) -> None:
    bench.line.send(b"1E00A9C3F7\r\n")
    [refused] = bench.run(100)
    assert isinstance(refused, CardRefused)
    assert "em4100" in refused.detail
    assert (bench.reader.vitals.refused, bench.reader.vitals.errors) == (1, 0)
    bench.line.send(bytes.fromhex("F88000E69E7806FE"))
    assert bench.run(200) == []
    assert (bench.reader.vitals.refused, bench.reader.vitals.dropped) == (1, 1)
    [drop] = bench.reader.take_drops()
    assert "wrong baud" in drop
