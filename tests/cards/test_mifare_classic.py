"""MIFARE Classic memory: sectors, access bits, directory, numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cards.encodings import NUMBER, decode
from gateway.cards.mifare_classic import (
    access_bits,
    first_block,
    mad_crc,
    number_in,
    sectors_of,
    trailer_block,
)
from gateway.errors import BadCardNumber, BadRecord


@pytest.mark.parametrize(
    ("sector", "first", "trailer"), [(0, 0, 3), (1, 4, 7), (31, 124, 127), (32, 128, 143), (39, 240, 255)]
)
def test_sectors_of_small_and_large_cards(sector: int, first: int, trailer: int) -> None:
    assert (first_block(sector), trailer_block(sector)) == (first, trailer)


def test_transport_access_bits_and_damaged_ones() -> None:
    keys = bytes(6)
    assert access_bits(keys + bytes.fromhex("FF078069") + keys) == (0, 0, 0, 1)
    with pytest.raises(BadRecord):
        access_bits(keys + bytes.fromhex("FF068069") + keys)


def test_directory_crc_check_value_and_lookup() -> None:
    assert mad_crc(b"123456789") == 0x99
    body = bytearray(31)
    body[1 + 2 * 3 : 1 + 2 * 3 + 2] = bytes.fromhex("1248")  # sector 4
    directory = bytes([mad_crc(bytes(body)), *body])
    assert sectors_of(directory, 0x4812) == (4,)
    assert sectors_of(directory, 0x4813) == ()
    with pytest.raises(BadRecord):
        sectors_of(bytes([directory[0] ^ 1]) + directory[1:], 0x4812)


@pytest.mark.parametrize(
    ("block", "form", "offset", "length"),
    [
        (b"\0\0" + b"00047711" + bytes(6), "ascii", 2, 8),
        (bytes.fromhex("00047711FF") + bytes(11), "bcd", 0, 5),
        (bytes(4) + (47711).to_bytes(4, "little") + bytes(8), "int-le", 4, 4),
        (bytes(4) + (47711).to_bytes(4, "big") + bytes(8), "int-be", 4, 4),
    ],
)
def test_a_number_on_the_card_meets_the_same_number_in_a_column(
    block: bytes, form: str, offset: int, length: int
) -> None:
    number = number_in(block, form, offset, length)
    assert number.projection == NUMBER
    assert number == decode("0047711", "number")


@given(st.binary(min_size=16, max_size=16), st.sampled_from(["ascii", "bcd", "int-le", "int-be"]), st.integers(0, 20))
def test_any_block_holds_a_number_or_is_refused(block: bytes, form: str, offset: int) -> None:
    try:
        number = number_in(block, form, offset, 4)
    except BadCardNumber:
        return
    assert number.value.isdigit()
