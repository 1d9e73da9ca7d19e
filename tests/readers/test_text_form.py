"""Whole or refused: what a reader of printed numbers takes, by width, technology and form."""

from __future__ import annotations

import pytest

from gateway.access.rules import Reason
from gateway.errors import ConfigError
from gateway.readers.base import CardRead, CardRefused, parse_options
from gateway.readers.serial_line import Options
from gateway.readers.text_form import TextForm


def judge(text: str, **options: object) -> CardRead | CardRefused:
    return TextForm(Options(**options)).judge("desk", text, 0)


@pytest.mark.parametrize(
    ("encoding", "whole", "cut"),
    [
        ("8h10d", "0140123456", "014012356"),
        ("6h8d", "10290915", "1029015"),
        ("2h3d-4h5d", "082,40198", "82,40198"),
        ("w26", "08240198", "0824019"),
        ("w34", "02141,11072", "02141,1072"),
    ],
)
def test_a_decimal_form_has_the_width_that_its_readers_print(encoding: str, whole: str, cut: str) -> None:
    assert isinstance(judge(whole, encoding=encoding), CardRead)
    refused = judge(cut, encoding=encoding)
    assert isinstance(refused, CardRefused)
    assert refused.reason == Reason.CARD_FORMAT
    assert cut not in refused.detail
    assert isinstance(judge(cut, encoding=encoding, digits="any"), CardRead)


@pytest.mark.parametrize("encoding", ["dec-msb", "dec-lsb", "number"])
def test_a_width_that_is_set_holds(encoding: str) -> None:
    assert isinstance(judge("0000104711", encoding=encoding, digits=10), CardRead)
    for cut in ("000010471", "00001047110"):
        assert isinstance(judge(cut, encoding=encoding, digits=10), CardRefused)


def test_two_widths_may_be_set_for_cards_of_two_kinds() -> None:
    options = {"encoding": "hex-msb", "digits": [8, 14]}
    for text in ("DEADBEEF", "04A1B2C3D4E5F6", "0xDEADBEEF", "DE:AD:BE:EF"):
        assert isinstance(judge(text, **options), CardRead)
    assert isinstance(judge("DEADBEEF", encoding="hex-msb", digits=14), CardRefused)


def test_zeros_in_front_prove_a_width_once_three_numbers_have_shown_it() -> None:
    form = TextForm(Options(encoding="dec-msb"))
    cut = "00012345"
    assert isinstance(form.judge("desk", cut, 0), CardRead), "nothing is known yet"
    for text in ("0012345678", "0012345678", "0087654321", "4212056587"):
        assert isinstance(form.judge("desk", text, 0), CardRead)
    assert isinstance(form.judge("desk", "0012345679", 0), CardRead)
    assert isinstance(form.judge("desk", cut, 0), CardRefused)
    assert isinstance(form.judge("desk", "421205658", 0), CardRefused)


def test_a_reader_that_was_set_anew_is_learnt_anew() -> None:
    form = TextForm(Options(encoding="number"))
    for number in range(3):
        form.judge("desk", f"{number:010d}", 0)
    events = [form.judge("desk", f"{number:08d}", 0) for number in range(4)]
    assert [type(event) for event in events] == [CardRefused, CardRefused, CardRead, CardRead]


def test_a_reader_that_does_not_fill_up_keeps_all_its_widths() -> None:
    form = TextForm(Options(encoding="dec-msb"))
    for text in ("4212056587", "421205658", "42120565", "4", "4212056587"):
        assert isinstance(form.judge("desk", text, 0), CardRead)


def test_zeros_that_only_fill_up_are_cut() -> None:
    for text, raw in (
        ("0004A1B2C3D4E5F6", "04A1B2C3D4E5F6"),
        ("00000000DEADBEEF", "DEADBEEF"),
        ("000000DEADBEEF", "DEADBEEF"),
    ):
        read = judge(text, strip=True)
        assert isinstance(read, CardRead)
        assert read.number.value.hex().upper() == raw


@pytest.mark.parametrize("text", ["0140123456", "150000001", "2290000000"])
def test_fobs_of_a_125_khz_reader_are_no_phones(text: str) -> None:
    read = judge(text, encoding="dec-msb", technology="125khz")
    assert isinstance(read, CardRead)
    assert not read.number.is_random


def test_phones_are_still_refused_at_readers_of_mifare_cards() -> None:
    refused = judge("08A1B2C3")
    assert isinstance(refused, CardRefused)
    assert refused.reason == Reason.CARD_RANDOM_UID


@pytest.mark.parametrize(
    ("text", "encoding", "proposal"),
    [
        ("1E00A9C3F7", "hex-msb", "em4100"),
        ("E00401501A2B3C4D", "hex-msb", "iso15693"),
        ("4D3C2B1A500104E0", "hex-msb", "hex-lsb|iso15693"),
        ("0004A1B2C3D4E5F6", "hex-msb", "unpad"),
        ("F8FF12E0014E7A03", "hex-msb", "iclass"),
        ("2345,801234", "hex-msb", "w35"),
        ("529D06E32A", "8h10d", "bcc-appended"),
    ],
)
def test_a_card_in_another_form_is_refused_with_the_form_it_may_have(text: str, encoding: str, proposal: str) -> None:
    refused = judge(text, encoding=encoding, digits="any")
    assert isinstance(refused, CardRefused)
    assert proposal in refused.detail
    assert text not in refused.detail


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"digits": 0}, "digits"),
        ({"digits": "ten"}, "digits"),
        ({"digits": [8, "14"]}, "digits"),
        ({"digits": True}, "digits"),
        ({"technology": "nfc"}, "technology"),
        ({"encoding": "other"}, "digits"),
        ({"pattern": "("}, "pattern"),
        ({"strip": True, "encoding": "unpad"}, "encoding"),
        ({"parity": "mark"}, "parity"),
        ({"data_bits": 9}, "data_bits"),
        ({"end": "ABCDEFGHIJ"}, "end"),
    ],
)
def test_settings_that_cannot_be_are_named(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Options(**options)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [key]


def test_digits_come_from_a_file_as_a_number_or_a_list() -> None:
    problems: list[str] = []
    for value in (10, [8, 14], "any"):
        parsed = parse_options("serial-line", {"digits": value}, lambda key, _message: problems.append(key))
        assert parsed.digits == value
    assert not problems
