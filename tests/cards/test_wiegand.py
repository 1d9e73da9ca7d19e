"""Wiegand words: published ones, parity, and what they keep of a card."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cards.encodings import W26, decode
from gateway.cards.identity import CardNumber
from gateway.cards.wiegand import FORMATS, has_agreed_parity, number_of, word_of
from gateway.errors import BadCardNumber


def bits(text: str) -> tuple[int, int]:
    plain = text.replace(" ", "")
    return int(plain, 2), len(plain)


def test_published_words_are_read() -> None:
    assert number_of(*bits("1 00000001 0011000000111001 1")) == CardNumber(W26, bytes.fromhex("013039"))
    assert number_of(*bits("0 11111011000011101110001000001011 0")).value == bytes.fromhex("FB0EE20B")


def test_a_26_bit_word_meets_what_a_column_of_facility_and_card_holds() -> None:
    assert number_of(*word_of(bytes.fromhex("529D06"))) == decode("082,40198", "w26")


@given(st.sampled_from([3, 4, 7]).flatmap(lambda n: st.binary(min_size=n, max_size=n)), st.data())
def test_words_are_read_back_and_one_wrong_bit_is_noticed(number: bytes, data: st.DataObject) -> None:
    word, length = word_of(number)
    assert number_of(word, length).value == number
    with pytest.raises(BadCardNumber, match="parity"):
        number_of(word ^ 1 << data.draw(st.integers(0, length - 1)), length)


@pytest.mark.parametrize("length", [0, 4, 8, 19, 129])
def test_key_presses_and_rests_of_words_are_no_numbers(length: int) -> None:
    with pytest.raises(BadCardNumber, match=str(length)):
        number_of(0, length)
    with pytest.raises(BadCardNumber):
        word_of(bytes(5))


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_facility_and_card_are_read_back_from_their_word(name: str, data: st.DataObject) -> None:
    form = FORMATS[name]
    card = data.draw(st.integers(0, (1 << form.card.bits) - 1))
    facility = data.draw(st.integers(0, (1 << form.facility.bits) - 1)) if form.facility else 0
    word = form.word(facility, card)
    assert form.is_whole(word)
    assert form.card.of(word, form.bits) == card
    assert not form.facility or form.facility.of(word, form.bits) == facility


def test_a_published_26_bit_word_is_made_of_its_facility_and_card() -> None:
    assert FORMATS["h10301"].word(1, 12345) == 0b1_00000001_0011000000111001_1
    # TWN3, HID Prox transparent: 1A 80 8001 C0 is facility 1, card 3.
    assert FORMATS["h10301"].word(1, 3) << 6 == 0x808001C0


def _proxmark_corporate_35(facility: int, card: int) -> int:
    bot = (card & 0xFFFFF) << 1 | (facility & 0x7FF) << 21
    mid = (facility & 0x800) >> 11
    mid |= (((mid & 1) ^ (bot & 0xB6DB6DB6)).bit_count() & 1) << 1
    bot |= 1 ^ (((mid & 3) ^ (bot & 0x6DB6DB6C)).bit_count() & 1)
    mid |= (1 ^ (((mid & 3) ^ bot).bit_count() & 1)) << 2
    return mid << 32 | bot


@given(st.integers(0, 0x7FF), st.integers(0, 0xFFFFF))
def test_corporate_1000_agrees_with_the_table_it_was_taken_from(facility: int, card: int) -> None:
    # Its 32-bit halves fold bit 32 onto bit 0, so the comparison holds for company codes without the top bit.
    assert FORMATS["corporate-1000-35"].word(facility, card) == _proxmark_corporate_35(facility, card)


def _set_parity_37(number: int) -> int:
    word = number << 1
    word |= ((word >> 18 & (1 << 18) - 1).bit_count() % 2) << 36
    return word | 1 - (word >> 1 & (1 << 18) - 1).bit_count() % 2


@given(st.integers(0, (1 << 35) - 1))
def test_the_two_halves_of_a_37_bit_word_share_their_middle_bit(number: int) -> None:
    assert FORMATS["h10302"].word(0, number) == _set_parity_37(number)


@pytest.mark.parametrize(
    ("text", "encoding", "name", "facility", "card"),
    [
        ("2345,801234", "w35", "corporate-1000-35", 2345, 801234),
        ("1234-456789", "w37", "h10304", 1234, 456789),
        ("0801234567", "h10302", "h10302", 0, 801234567),
        ("1234567:1234567", "w48", "corporate-1000-48", 1234567, 1234567),
        ("123-45678", "c15001", "c15001", 123, 45678),
        ("123-4567890", "s12906", "s12906", 123, 4567890),
    ],
)
def test_a_column_of_facility_and_card_meets_the_word_of_the_reader(
    text: str, encoding: str, name: str, facility: int, card: int
) -> None:
    form = FORMATS[name]
    assert decode(text, encoding) == number_of(form.word(facility, card), form.bits)


@given(st.sampled_from([35, 37, 48]), st.data())
def test_a_wrong_parity_bit_makes_no_other_persons_number(bits: int, data: st.DataObject) -> None:
    form = FORMATS[{35: "corporate-1000-35", 37: "h10302", 48: "corporate-1000-48"}[bits]]
    word = form.with_parity(form.card.put(data.draw(st.integers(0, (1 << form.card.bits) - 1)), bits))
    damaged = word ^ 1 << data.draw(st.integers(0, bits - 1))
    assert has_agreed_parity(word, bits)
    assert not has_agreed_parity(damaged, bits)
    assert number_of(word, bits).projection == f"w{bits}"
    assert number_of(damaged, bits).projection == f"w{bits}-raw"


@given(st.integers(20, 128).filter(lambda bits: bits not in {26, 34, 58}), st.data())
def test_any_length_is_a_number_of_its_own(bits: int, data: st.DataObject) -> None:
    word = data.draw(st.integers(0, (1 << bits) - 1))
    number = number_of(word, bits)
    assert len(number.value) <= 16
    assert number.projection == "uid" or not number.is_random
    assert number.projection == "uid" or number.projection.startswith(f"w{bits}")


@pytest.mark.parametrize(
    ("word", "bits", "technology", "projection"),
    [
        (0xE00401501A2B3C4D, 64, "", "w64"),
        (0xE00401501A2B3C4D, 64, "iso15693", "iso15693"),
        (0x1E00A9C3F7, 40, "125khz", "em4100"),
        (0x085A1B2C, 32, "125khz", "uid"),
    ],
)
def test_the_technology_of_the_cards_names_whole_bytes(word: int, bits: int, technology: str, projection: str) -> None:
    number = number_of(word, bits, technology)
    assert number.projection == projection
    assert number.value == word.to_bytes(bits // 8, "big")
    assert not number.is_random


def test_a_wiegand_reader_of_mifare_cards_may_say_so_and_phones_are_refused() -> None:
    assert number_of(0x085A1B2C, 32, "iso14443a").is_random
    assert number_of(*word_of(bytes.fromhex("085A1B2C")), "iso14443a").is_random
    assert not number_of(*word_of(bytes.fromhex("085A1B2C"))).is_random
