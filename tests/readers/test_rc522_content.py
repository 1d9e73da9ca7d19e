"""Numbers in the card: MIFARE Classic sectors and NTAG pages through the RC522 driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.rules import Reason
from gateway.cards.encodings import decode
from gateway.errors import ConfigError
from gateway.readers.base import CardGone, CardRead, CardRefused
from gateway.readers.rc522.driver import Options
from gateway.simulator.card_memory import ClassicCard, NtagCard
from tests.readers.contract import FOUR, OTHER, SEVEN, taps
from tests.readers.test_rc522 import Rc522Bench

KEY = bytes.fromhex("4B0B20107CCB")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "sector.key"
    path.write_text(KEY.hex())
    return path


def issued(uid: bytes, number: bytes = b"00047711") -> ClassicCard:
    """Return a card as the school's supplier programs it: number in sector 4, block 1, behind key A."""
    card = ClassicCard(uid)
    card.write(4, 1, number)
    card.set_key(0x60, 4, KEY)
    return card


def sector_bench(key_file: Path) -> Rc522Bench:
    bench = Rc522Bench(Options(credential="classic-sector", sector=4, block=1, length=8, key_file=str(key_file)))
    bench.reader.open()
    return bench


@pytest.mark.parametrize("uid", [FOUR, SEVEN])
def test_the_number_in_a_sector_stands_for_the_card(key_file: Path, uid: bytes) -> None:
    bench = sector_bench(key_file)
    entered_ns = bench.chip.field.enter(issued(uid))
    [read] = bench.run(60)
    assert isinstance(read, CardRead)
    assert read.number == decode("47711", "number")
    assert (read.seen_ns - entered_ns) / 1e6 < 12


def test_a_resting_card_is_read_once_and_the_reader_stays_healthy(key_file: Path) -> None:
    bench = sector_bench(key_file)
    bench.chip.field.enter(issued(FOUR))
    assert len(bench.run(3000)) == 1
    assert bench.reader.vitals.resets == 0
    bench.leave()
    assert [type(event) for event in bench.run(300)] == [CardGone]
    bench.chip.field.enter(issued(OTHER, b"00000042"))
    [read] = bench.run(100)
    assert read.number == decode("42", "number")


def test_two_cards_with_numbers_are_both_read(key_file: Path) -> None:
    bench = sector_bench(key_file)
    bench.chip.field.enter(issued(FOUR))
    bench.chip.field.enter(issued(OTHER, b"00000042"))
    assert {event.number for event in taps(bench.run(500))} == {decode("42", "number"), decode("47711", "number")}


def test_a_card_with_another_key_is_refused_and_does_not_block_the_next(key_file: Path) -> None:
    bench = sector_bench(key_file)
    bench.chip.field.enter(ClassicCard(FOUR))
    [event] = bench.run(200)
    assert isinstance(event, CardRefused)
    assert event.reason == Reason.CARD_FORMAT
    assert "key" in event.detail
    bench.leave()
    bench.run(300)
    bench.chip.field.enter(issued(OTHER))
    assert isinstance(taps(bench.run(100))[0], CardRead)


def test_a_card_of_another_kind_is_refused_at_once(key_file: Path) -> None:
    bench = sector_bench(key_file)
    bench.enter(SEVEN)
    [event] = taps(bench.run(100))
    assert isinstance(event, CardRefused)
    assert "another kind" in event.detail


def test_a_sector_without_a_number_is_refused(key_file: Path) -> None:
    bench = sector_bench(key_file)
    bench.chip.field.enter(issued(FOUR, b"no digit"))
    [event] = taps(bench.run(100))
    assert isinstance(event, CardRefused)


def test_ntag_pages_hold_a_number_too() -> None:
    bench = Rc522Bench(Options(credential="ntag-page", block=6, offset=2, length=4, number_form="int-be"))
    bench.reader.open()
    card = NtagCard(SEVEN)
    card.pages[26:30] = (47711).to_bytes(4, "big")
    bench.chip.field.enter(card)
    [read] = bench.run(60)
    assert read.number == decode("47711", "number")
    assert bench.run(1000) == []


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Options(credential="face", sector=99, offset=12, length=8, key_type="C", number_form="roman")
    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        "credential",
        "sector",
        "length",
        "key_type",
        "number_form",
    }


def test_a_key_file_that_holds_something_else_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "bad.key"
    path.write_text("open sesame")
    bench = Rc522Bench(Options(credential="classic-sector", key_file=str(path)))
    with pytest.raises(ConfigError) as caught:
        bench.reader.open()
    assert "sesame" not in str(caught.value)
