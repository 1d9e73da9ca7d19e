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


@pytest.mark.parametrize(
    ("printed", "encoding", "projection", "raw"),
    [
        ("1E00A9C3F7", "em4100", "em4100", "1E00A9C3F7"),
        ("F7C3A9001E", "hex-lsb|em4100", "em4100", "1E00A9C3F7"),
        ("1E00A9C3F783", "bcc-appended|em4100", "em4100", "1E00A9C3F7"),
        ("128860144631", "dec-msb|em4100", "em4100", "1E00A9C3F7"),
        ("E00401501A2B3C4D", "iso15693", "iso15693", "E00401501A2B3C4D"),
        ("4D3C2B1A500104E0", "hex-lsb|iso15693", "iso15693", "E00401501A2B3C4D"),
        ("F8FF12E0014E7A03", "iclass", "iclass", "F8FF12E0014E7A03"),
        ("01:2E:4C:D7:7A:1B:9F:02", "felica", "felica", "012E4CD77A1B9F02"),
        ("00A1B2C3D4", "legic", "legic", "00A1B2C3D4"),
        ("00112233445566778899AABBCCDDEEFF", "other", "other", "00112233445566778899AABBCCDDEEFF"),
        ("0812345678", "w36", "w36", "0812345678"),
        ("112233445501", "sum-appended|em4100", "em4100", "1122334455"),  # a line of Inditag firmware
        ("0004A1B2C3D4E5F6", "unpad|hex-msb", "uid", "04A1B2C3D4E5F6"),
        ("00000000DEADBEEF", "unpad|hex-msb", "uid", "DEADBEEF"),
        ("000000DEADBEEF", "unpad|hex-msb", "uid", "DEADBEEF"),
        ("00F6E5D4C3B2A104", "unpad|hex-lsb", "uid", "04A1B2C3D4E5F6"),
        ("0000001E00A9C3F7", "unpad|em4100", "em4100", "1E00A9C3F7"),
    ],
)
def test_numbers_that_are_no_uid_have_a_projection_of_their_own(
    printed: str, encoding: str, projection: str, raw: str
) -> None:
    check_encoding(encoding)
    number = decode(printed, encoding)
    assert (number.projection, number.value.hex().upper()) == (projection, raw)
    assert not number.is_random or projection == "uid"


@pytest.mark.parametrize(
    ("printed", "encoding"),
    [
        ("00A9C3F7", "em4100"),
        ("1E00A9C3F7", "iso15693"),
        ("4D3C2B1A500104E0", "iso15693"),  # last byte first
        ("00112233445566778899AABBCCDDEEFF00", "other"),
        ("2345,8012345", "w35"),
        ("12345,1", "w35"),
        ("112233445502", "sum-appended|em4100"),
        ("123456789ABCDEF012", "unpad|hex-msb"),
        ("2345801234", "w35"),  # nobody can know where the company code ends
    ],
)
def test_a_number_that_its_kind_cannot_have_is_refused(printed: str, encoding: str) -> None:
    with pytest.raises(BadCardNumber):
        decode(printed, encoding)


@pytest.mark.parametrize(
    "chain", ["em4100|hex-msb", "8h10d|em4100", "unpad", "w19", "w129", "w36|em4100", "hex-msb|unpad"]
)
def test_chains_of_kinds_that_make_no_sense_are_refused(chain: str) -> None:
    with pytest.raises(BadCardNumber):
        check_encoding(chain)


def test_every_batch_of_printed_fobs_can_be_used() -> None:
    for top in range(256):
        for encoding, text in (("8h10d", f"{(top << 24) + 0x123456:010d}"), ("w34", f"{top << 8:05d},11072")):
            assert not decode(text, encoding).is_random


def test_rules_for_uids_hold_where_the_reader_says_that_it_reads_them() -> None:
    assert decode("0140123456", "dec-msb").is_random
    assert not decode("0140123456", "dec-msb", "125khz").is_random
    assert decode("0140123456", "8h10d", "iso14443a").is_random
    with pytest.raises(BadCardNumber, match="cascade tag"):
        decode("88A1B2C3", "hex-msb")
    assert decode("88A1B2C3", "hex-msb", "125khz").value == bytes.fromhex("88A1B2C3")
    assert decode("1E00A9C3F7", "hex-msb", "125khz").projection == "em4100"


def test_a_tag_of_five_bytes_meets_rosters_that_keep_what_is_printed_on_it() -> None:
    number = decode("0801161DD6", "em4100")  # Nitgen: 3+5 digits 022,07638
    assert project(number, "uid") == decode("0018226646", "8h10d")
    assert project(number, W26) == decode("022,07638", "w26")
    assert project(number, LOW_24) == decode("01449430", "6h8d")
    assert project(number, "iso15693") is None
    assert project(decode("E00401501A2B3C4D", "iso15693"), "uid") is None
