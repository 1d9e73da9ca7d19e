"""The card key: stable, keyed, and the only way out of a reader's process."""

from __future__ import annotations

from gateway.cards.identity import CardNumber, card_key
from gateway.cards.uid import Uid

SITE = bytes(range(32))


def test_the_key_is_what_roster_files_in_the_field_hold() -> None:
    number = CardNumber.of_uid(Uid(bytes.fromhex("DEADBEEF")))
    assert card_key(SITE, number).hex() == "903bcf58418ec5df1c5ad2cd1926193d"


def test_another_site_or_projection_gives_another_key() -> None:
    number = CardNumber("uid", bytes.fromhex("DEADBE01"))
    others = [
        card_key(bytes(32), number),
        card_key(SITE, CardNumber("w26", number.value)),
        card_key(SITE, CardNumber("uid", number.value[:3])),
    ]
    assert card_key(SITE, number) not in others


def test_random_uids_are_known_as_such_only_in_their_own_projection() -> None:
    assert CardNumber("uid", bytes.fromhex("08123456")).is_random
    assert not CardNumber("w26", bytes.fromhex("081234")).is_random


def test_a_card_number_prints_its_tail_only() -> None:
    text = repr(CardNumber("uid", bytes.fromhex("04A1B2C3D4E5F6")))
    assert "E5F6" in text
    assert "A1B2" not in text
