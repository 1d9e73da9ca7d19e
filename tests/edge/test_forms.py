"""In which projections the gateway looks a number up: its own first, then those that the roster uses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from gateway.access.people import Roster
from gateway.cards.encodings import decode
from gateway.cards.identity import CardNumber, card_key
from gateway.cards.wiegand import number_of, word_of
from gateway.edge.tapline import _forms


def forms(number: CardNumber, *projections: str) -> list[CardNumber]:
    return _forms(number, cast("Roster", SimpleNamespace(projections=("uid", *projections))))


def test_a_tag_of_five_bytes_is_found_by_the_four_that_older_rosters_hold() -> None:
    tag = decode("1E00A9C3F7", "em4100")
    assert forms(tag) == [tag, decode("0011125751", "8h10d")]
    assert forms(tag, "w26", "24bit-dec")[2:] == [decode("169,50167", "w26"), decode("11125751", "6h8d")]


@pytest.mark.parametrize(
    ("number", "key"),
    [
        # Keys of the release before, which journals and rosters hold.
        (decode("DEADBEEF", "hex-msb"), "903bcf58418ec5df1c5ad2cd1926193d"),
        (decode("3735928559", "8h10d"), "903bcf58418ec5df1c5ad2cd1926193d"),
        (decode("57005,48879", "w34"), "903bcf58418ec5df1c5ad2cd1926193d"),
        (number_of(0xDEADBEEF, 32), "903bcf58418ec5df1c5ad2cd1926193d"),
        (number_of(*word_of(bytes.fromhex("DEADBEEF"))), "903bcf58418ec5df1c5ad2cd1926193d"),
        (decode("DEADBEEF", "hex-msb", "125khz"), "903bcf58418ec5df1c5ad2cd1926193d"),
    ],
)
def test_keys_of_cards_that_could_be_read_before_do_not_change(number: CardNumber, key: str) -> None:
    assert card_key(bytes(range(32)), number).hex() == key


def test_a_card_that_is_no_uid_is_looked_up_as_itself_only() -> None:
    number = decode("E00401501A2B3C4D", "iso15693")
    assert forms(number, "w26", "ct-truncated") == [number]
