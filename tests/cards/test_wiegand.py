"""Wiegand words: published ones, parity, and what they keep of a card."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cards.encodings import W26, decode
from gateway.cards.identity import CardNumber
from gateway.cards.wiegand import number_of, word_of
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


@pytest.mark.parametrize("length", [0, 4, 8, 25, 27, 37, 64])
def test_other_lengths_have_no_agreed_form(length: int) -> None:
    with pytest.raises(BadCardNumber, match=str(length)):
        number_of(0, length)
    with pytest.raises(BadCardNumber):
        word_of(bytes(5))
