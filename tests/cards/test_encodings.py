"""Published worked values of how readers and MIS columns print one card."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cards.encodings import (
    CT_TRUNCATED,
    ENCODINGS,
    LOW_24,
    W26,
    check_encoding,
    decode,
    encode,
    project,
)
from gateway.cards.uid import Uid
from gateway.errors import BadCardNumber

NITGEN = bytes.fromhex("529D06E3")


@pytest.mark.parametrize(
    ("printed", "encoding", "raw"),
    [
        # Nitgen eNCard-i manual p. 56
        ("529D06E3", "hex-msb", "529D06E3"),
        ("52:9D:06:E3", "hex-msb", "529D06E3"),
        ("52-9d-06-e3", "hex-msb", "529D06E3"),
        ("0x529D06E3", "hex-msb", "529D06E3"),
        ("E3069D52", "hex-lsb", "529D06E3"),
        ("1386022627", "8h10d", "529D06E3"),
        ("1386022627", "dec-msb", "529D06E3"),
        ("3808861522", "dec-lsb", "529D06E3"),
        ("529D06E32A", "bcc-appended", "529D06E3"),
        ("354821792554", "dec-msb|bcc-appended", "529D06E3"),
        # a wiki of the field: 1C 78 F2 BF as little-endian decimal
        ("3220338716", "dec-lsb", "1C78F2BF"),
        # 7 bytes, both decimal orders
        ("1341660845581952", "dec-msb", "04C43BC21C2680"),
        ("36070701978600452", "dec-lsb", "04C43BC21C2680"),
        # PaperCut converter manual: hex2dec and ascii-enc
        ("2490285352", "dec-msb", "946EBD28"),
        ("3934364542443238", "ascii-hex|hex-msb", "946EBD28"),
    ],
)
def test_published_values_read_as_the_cards_they_belong_to(printed: str, encoding: str, raw: str) -> None:
    number = decode(printed, encoding)
    assert (number.projection, number.value) == ("uid", bytes.fromhex(raw))


@pytest.mark.parametrize(
    ("printed", "encoding", "projection", "uid"),
    [
        ("082,40198", "2h3d-4h5d", W26, "529D06E3"),
        ("08240198", "w26", W26, "529D06E3"),
        ("10290915", "6h8d", LOW_24, "529D06E3"),
        ("1002701960", "ct-truncated", CT_TRUNCATED, "04C43BC21C2680"),
    ],
)
def test_lossy_forms_meet_the_whole_uid_in_their_projection(
    printed: str, encoding: str, projection: str, uid: str
) -> None:
    number = decode(printed, encoding)
    assert number.projection == projection
    assert project(Uid(bytes.fromhex(uid)), projection) == number


_ROUND_TRIPS = ["hex-msb", "hex-lsb", "bcc-appended", "ascii-hex|hex-msb"]
_uids = st.sampled_from([4, 7, 10]).flatmap(lambda n: st.binary(min_size=n, max_size=n)).filter(lambda b: b[0] != 0x88)


@given(_uids, st.sampled_from(_ROUND_TRIPS))
def test_what_a_reader_prints_is_read_back(raw: bytes, encoding: str) -> None:
    assert decode(encode(Uid(raw), encoding), encoding).value == raw


@given(st.binary(min_size=4, max_size=4).filter(lambda b: b[0] != 0x88), st.sampled_from(["dec-msb", "8h10d", "w34"]))
def test_decimal_forms_of_four_bytes_are_read_back(raw: bytes, encoding: str) -> None:
    assert decode(encode(Uid(raw), encoding), encoding).value == raw


@given(st.text(max_size=40), st.sampled_from(ENCODINGS))
def test_any_text_is_a_number_or_refused_without_being_repeated(text: str, encoding: str) -> None:
    said = ""
    try:
        decode(text, encoding)
    except BadCardNumber as error:
        said = str(error)
    # A text without a digit may be a word of the sentence itself.
    assert len(text.strip()) <= 5 or not any(letter.isdigit() for letter in text) or text not in said


@pytest.mark.parametrize("chain", ["hex-middle", "hex-msb|hex-lsb", "ascii-hex", "hex-msb|ascii-hex", ""])
def test_chains_that_make_no_sense_are_refused(chain: str) -> None:
    with pytest.raises(BadCardNumber):
        check_encoding(chain)


@pytest.mark.parametrize("chain", [*(name for name in ENCODINGS if name != "ascii-hex"), "ascii-hex|dec-lsb"])
def test_every_single_form_and_a_sound_chain_are_known(chain: str) -> None:
    check_encoding(chain)


def test_a_number_spoilt_by_a_spreadsheet_is_explained() -> None:
    with pytest.raises(BadCardNumber, match="spreadsheet"):
        decode("4.77E+08", "dec-msb")
