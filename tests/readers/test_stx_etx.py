"""ID-12 and RDM6300 over a real pseudo terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from gateway.cards.encodings import project
from gateway.protocols.stx_etx import encode
from gateway.readers.base import CardRead
from tests.readers.contract import FOUR, OTHER, HeldUpContract, ReaderContract
from tests.readers.test_serial_line import LineBench


class StxBench(LineBench):
    def __init__(self, number: str = "four-bytes") -> None:
        super().__init__("stx-etx", number=number)

    def enter(self, uid: bytes) -> None:
        self.line.send(encode(0x01, uid))


@pytest.fixture
def bench() -> Iterator[StxBench]:
    made = StxBench()
    made.reader.open()
    yield made
    made.close()


class TestContract(HeldUpContract, ReaderContract):
    says_gone = False
    # These tags have no UID of ISO 14443: neither of these rows can happen here.
    test_a_seven_byte_uid_is_whole_or_refused_with_a_reason = None
    test_a_random_uid_is_refused_and_never_named = None

    @pytest.fixture
    def bench(self) -> Iterator[StxBench]:
        made = StxBench()
        yield made
        made.close()

    def test_a_card_that_leaves_and_comes_back_is_read_again(self, opened: StxBench) -> None:
        # The reader itself never says that a tag has gone, so time does.
        opened.enter(FOUR)
        assert len(opened.run(100)) == 1
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            assert opened.reader.poll() == []
        opened.enter(FOUR)
        assert len(opened.run(100)) == 1


def test_a_reader_that_repeats_while_a_tag_rests_gives_one_tap(bench: StxBench) -> None:
    events = []
    for _ in range(10):
        bench.enter(FOUR)
        events += bench.reader.poll()
        time.sleep(0.03)
    assert len(events) == 1
    bench.enter(OTHER)
    assert len(bench.run(100)) == 1


def test_a_tag_keeps_all_its_five_bytes_unless_told_otherwise() -> None:
    # Seeed 125 kHz module: 62 E3 08 6C ED, checksum 08
    for number, raw in (("em4100", "62E3086CED"), ("four-bytes", "E3086CED")):
        bench = StxBench(number)
        bench.reader.open()
        bench.line.send(b"\x0262E3086CED08\x03")
        [read] = bench.run(100)
        assert isinstance(read, CardRead)
        assert read.number.value == bytes.fromhex(raw)
        assert read.card_type == "em4100"
        bench.close()


def test_two_tags_that_print_one_number_are_two_tags() -> None:
    bench = StxBench("em4100")
    bench.reader.open()
    bench.line.send(encode(0x01, FOUR) + encode(0x02, FOUR))
    first, second = bench.run(100)
    assert first.number != second.number
    assert project(first.number, "uid") == project(second.number, "uid")
    bench.close()


def test_tags_whose_printed_number_looks_like_a_phones_are_no_phones(bench: StxBench) -> None:
    for first in (0x08, 0x88):
        bench.enter(bytes([first, 1, 2, 3]))
        [read] = bench.run(100)
        assert isinstance(read, CardRead)
        assert not read.number.is_random
