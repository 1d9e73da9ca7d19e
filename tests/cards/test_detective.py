"""The format detective against columns as schools have them."""

from __future__ import annotations

import random

import pytest

from gateway.cards.detective import Form, form_of, investigate
from gateway.cards.encodings import encode
from gateway.cards.uid import Uid


def school(encoding: str, size: int = 400, seed: int = 3, length: int = 4) -> tuple[list[Uid], list[str]]:
    chance = random.Random(seed)
    first = [0x04] if length > 4 else range(0x10, 0x88)
    cards = [Uid(bytes([chance.choice(first), *chance.randbytes(length - 1)])) for _ in range(size)]
    return cards, [encode(card, encoding) for card in cards]


@pytest.mark.parametrize(
    "encoding", ["hex-msb", "hex-lsb", "dec-msb", "dec-lsb", "8h10d", "w34", "bcc-appended", "ascii-hex|hex-msb"]
)
def test_a_lossless_column_is_explained_by_three_taps(encoding: str) -> None:
    cards, column = school(encoding)
    verdict = investigate(cards[:3], column)
    assert verdict.best is not None
    assert verdict.best.rows == {0: 0, 1: 1, 2: 2}
    assert not verdict.best.lossy
    assert verdict.coverage == 1.0


@pytest.mark.parametrize("encoding", ["w26", "6h8d", "2h3d-4h5d"])
def test_a_lossy_column_is_explained_and_flagged(encoding: str) -> None:
    cards, column = school(encoding)
    verdict = investigate(cards[:5], column)
    assert verdict.best is not None
    assert verdict.best.lossy
    assert "share theirs" in verdict.why


def test_seven_byte_cards_cut_by_a_cheap_reader_are_recognised() -> None:
    cards, column = school("ct-truncated", length=7)
    verdict = investigate(cards[:4], column)
    assert verdict.best is not None
    assert verdict.best.encoding == "ct-truncated"


def test_the_same_card_three_times_is_one_card() -> None:
    cards, column = school("hex-msb")
    verdict = investigate([cards[0]] * 3, column)
    assert verdict.best is None
    assert "3 different ones" in verdict.why


def test_two_forms_that_point_to_different_people_are_refused() -> None:
    cards, column = school("hex-msb")
    # Somebody else's entry is the first card's number the other way round.
    column[7] = encode(cards[0], "hex-lsb")
    verdict = investigate(cards[:4], column)
    assert verdict.best is None
    assert "different people" in verdict.why


def test_a_form_that_keeps_too_little_is_refused() -> None:
    cards, column = school("w26")
    column[9] = column[0]
    verdict = investigate(cards[:4], column)
    assert verdict.best is None
    assert "several people" in verdict.why


def test_padding_gaps_and_spoilt_entries_lower_the_coverage_only() -> None:
    cards, column = school("dec-msb", 100)
    column = [text.zfill(12) for text in column]
    column[50:60] = ["4.77E+08"] * 10
    column[60:80] = [""] * 20
    verdict = investigate(cards[:3], column)
    assert verdict.best is not None
    assert verdict.coverage == pytest.approx(70 / 80)


def test_cards_that_the_school_does_not_know_explain_nothing() -> None:
    _, column = school("hex-msb")
    strangers, _ = school("hex-msb", 4, seed=99)
    verdict = investigate(strangers, column)
    assert verdict.best is None
    assert verdict.explanations == ()


def test_no_sentence_shows_a_card_number() -> None:
    cards, column = school("hex-msb")
    text = repr(investigate(cards[:3], column)).upper()
    assert not any(card.raw.hex().upper() in text for card in cards)


def test_a_form_that_points_to_somebody_else_than_the_owner_is_out() -> None:
    cards, column = school("hex-msb")
    column[7] = encode(cards[0], "hex-lsb")
    verdict = investigate(cards[:4], column, {cards[0]: [0]})
    assert verdict.best is not None
    assert verdict.best.encoding == "hex-msb"
    assert [item.encoding for item in verdict.explanations if item.disproved] == ["hex-lsb"]


def test_taps_of_other_people_than_those_named_prove_nothing() -> None:
    cards, column = school("hex-msb")
    verdict = investigate(cards[:3], column, {card: [place + 100] for place, card in enumerate(cards[:3])})
    assert verdict.best is None
    assert "other people" in verdict.why


@pytest.mark.parametrize(
    ("encoding", "width", "order", "keeps", "padding"),
    [
        ("dec-lsb", 12, "last byte first", "whole", "zeros to 12 places"),
        ("hex-msb", 0, "first byte first", "whole", "none"),
        ("6h8d", 0, "first byte first", "the last 3 of 4 bytes", "zeros to 8 places"),
        ("bcc-appended", 0, "first byte first", "whole and a check byte", "none"),
    ],
)
def test_a_form_is_described_in_words(encoding: str, width: int, order: str, keeps: str, padding: str) -> None:
    cards, column = school(encoding)
    column = [text.zfill(width) for text in column]
    best = investigate(cards[:5], column).best
    assert best is not None
    assert form_of(best, column) == Form(order, keeps, padding)
