"""Check bytes, type names and the cascade against published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cards.iso14443 import bcc, card_type, cascade_levels, crc_a, has_good_crc, with_crc
from gateway.errors import BadCardNumber


@pytest.mark.parametrize(
    ("frame", "crc"),
    [
        ("", "63 63"),
        ("00 00", "A0 1E"),  # ISO/IEC 14443-3 annex B, example 1
        ("12 34", "26 CF"),  # example 2
        ("50 00", "57 CD"),  # HLTA
        ("30 00", "02 A8"),  # READ of block 0
        ("E0 50", "BC A5"),  # RATS with FSDI 5
    ],
)
def test_crc_a_matches_the_standard_and_frames_seen_on_air(frame: str, crc: str) -> None:
    assert crc_a(bytes.fromhex(frame)) == bytes.fromhex(crc)


@given(st.binary(min_size=1, max_size=32), st.data())
def test_one_flipped_bit_is_always_noticed_by_crc_a(body: bytes, data: st.DataObject) -> None:
    frame = with_crc(body)
    assert has_good_crc(frame)
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    flipped = (int.from_bytes(frame, "big") ^ 1 << bit).to_bytes(len(frame), "big")
    assert not has_good_crc(flipped)


def test_check_byte_of_a_published_uid() -> None:
    assert bcc(bytes.fromhex("52 9D 06 E3")) == 0x2A


@pytest.mark.parametrize(
    ("uid", "levels"),
    [
        ("DEADBEEF", ["DEADBEEF"]),
        ("04A1B2C3D4E5F6", ["8804A1B2", "C3D4E5F6"]),
        ("0411223344556677 8899", ["88041122", "88334455", "66778899"]),
    ],
)
def test_the_cascade_carries_three_bytes_a_level_until_four_are_left(uid: str, levels: list[str]) -> None:
    assert cascade_levels(bytes.fromhex(uid)) == tuple(bytes.fromhex(level) for level in levels)


def test_a_uid_of_five_bytes_has_no_cascade() -> None:
    with pytest.raises(BadCardNumber):
        cascade_levels(bytes(5))


@pytest.mark.parametrize(
    ("atqa", "sak", "name"),
    [
        ("0400", 0x08, "mifare-classic-1k"),
        ("0400", 0x88, "mifare-classic-1k"),
        ("0200", 0x18, "mifare-classic-4k"),
        ("0400", 0x09, "mifare-mini"),
        ("4400", 0x00, "ntag"),
        ("4403", 0x20, "desfire"),
        ("0400", 0x20, "iso14443-4"),
        ("0400", 0x77, "unknown"),
    ],
)
def test_a_card_is_named_by_its_answers(atqa: str, sak: int, name: str) -> None:
    assert card_type(bytes.fromhex(atqa), sak) == name
