"""Which answers of a card no maker gives."""

from __future__ import annotations

import pytest

from gateway.cards.clones import GEN2_ATS, is_classic, is_impossible

FOUR, SEVEN = bytes.fromhex("DEADBEEF"), bytes.fromhex("04A1B2C3D4E5F6")


@pytest.mark.parametrize(
    ("uid", "atqa", "sak"),
    [
        (FOUR, "0400", 0x08),
        (SEVEN, "4400", 0x08),
        (FOUR, "4400", 0x08),  # issued with 7 bytes, personalised to show 4
        (FOUR, "0200", 0x18),
        (SEVEN, "4200", 0x18),
        (FOUR, "0400", 0x88),  # Infineon
        (FOUR, "0400", 0x28),  # SmartMX
        (FOUR, "0400", 0x09),
        (SEVEN, "4400", 0x00),
        (SEVEN, "4403", 0x20),
        (FOUR, "0403", 0x20),
        (FOUR, "0800", 0x20),  # a bank card
        (bytes(10), "8400", 0x20),
    ],
)
def test_answers_that_makers_give_are_not_doubted(uid: bytes, atqa: str, sak: int) -> None:
    assert not is_impossible(uid, bytes.fromhex(atqa), sak)


@pytest.mark.parametrize(
    ("uid", "atqa", "sak"),
    [
        (SEVEN, "0400", 0x08),  # seven bytes, announced as four
        (FOUR, "4403", 0x08),  # a Classic with the ATQA of a DESFire
        (FOUR, "0100", 0x08),
        (FOUR, "0000", 0x08),  # no way of anticollision
        (FOUR, "0C00", 0x08),  # two of them
    ],
)
def test_answers_that_contradict_each_other_are_impossible(uid: bytes, atqa: str, sak: int) -> None:
    assert is_impossible(uid, bytes.fromhex(atqa), sak)


def test_only_cards_that_are_nothing_but_a_classic_are_asked_further() -> None:
    assert [sak for sak in (0x00, 0x08, 0x09, 0x18, 0x20, 0x28, 0x38) if is_classic(sak)] == [0x08, 0x09, 0x18]


def test_the_answer_to_select_holds_its_own_length() -> None:
    assert GEN2_ATS[0] == len(GEN2_ATS)
