"""The line parser: never a wrong line; damaged streams are in test_fuzz.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.line import Banner, Dropped, Line, LineForm, LineParser, frame_bytes
from gateway.protocols.shapes import shape_of

_number = st.text("0123456789ABCDEF", min_size=8, max_size=14)


@given(st.binary(max_size=400))
def test_no_bytes_raise_and_the_buffer_stays_small(data: bytes) -> None:
    parser = LineParser(LineForm())
    parser.feed(data)
    assert len(parser._line) <= 64


@given(_number, st.integers(0, 13), st.sampled_from([0x00, 0x07, 0x1B, 0x7F, 0x80, 0xFF]))
def test_a_line_with_one_byte_of_noise_is_never_a_number(number: str, place: int, noise: int) -> None:
    raw = number.encode()
    place = min(place, len(raw))
    [event] = LineParser(LineForm()).feed(raw[:place] + bytes([noise]) + raw[place:] + b"\r")
    assert event == Dropped("not text", len(raw) + 1)


def test_a_line_that_never_ends_is_dropped_once_and_the_next_one_read() -> None:
    parser = LineParser(LineForm(max_bytes=16))
    assert parser.feed(b"A" * 1000) == []
    assert parser.feed(b"\rDEADBEEF\r") == [Dropped("too long", 1000), Line("DEADBEEF")]


@pytest.mark.parametrize("banner", [b"ELA GM4.02\r", b"ELA TM1.30\r\n", b"\r\nRF IDeas>\r"])
def test_banners_of_known_readers_are_restarts(banner: bytes) -> None:
    assert LineParser(LineForm()).feed(banner) == [Banner()]


def test_a_silence_ends_the_line_of_readers_without_line_ends() -> None:
    parser = LineParser(LineForm(ends_by_silence=True))
    assert parser.feed(b"DEADBEEF") == []
    assert parser.idle() == [Line("DEADBEEF")]


def test_a_line_prints_no_number() -> None:
    assert "DEAD" not in repr(Line("DEADBEEF"))


@pytest.mark.parametrize(
    ("form", "raw", "text"),
    [
        # Readers that frame their text, as they come; numbers are invented.
        (LineForm(), b"\x020012345678\r\n\x03", "0012345678"),
        (LineForm(), b"\x02DEADBEEF\x03", "DEADBEEF"),
        (LineForm(), b"\xef\xbb\xbfDEADBEEF\r\n", "DEADBEEF"),
        (LineForm(start=b"\x02", end=b"\x03"), b"\x02DEADBEEF\r\n\x03", "DEADBEEF"),
        (LineForm(start=b"\x02"), b"\x02DEADBEEF\r", "DEADBEEF"),
        (LineForm(end=b"\x00"), b"DEADBEEF\x00", "DEADBEEF"),
        (LineForm(end=b"\r\n\x03"), b"DEADBEEF\r\n\x03", "DEADBEEF"),
        (LineForm(start=b":"), b":DEADBEEF05C8\r\n", "DEADBEEF05C8"),
        (LineForm(pattern=r".* ([0-9A-F]+)"), b"25/11/26 08:41:02 DEADBEEF\r\n", "DEADBEEF"),
    ],
)
def test_each_framed_line_is_one_number(form: LineForm, raw: bytes, text: str) -> None:
    parser = LineParser(form)
    assert parser.feed(raw * 3) == [Line(text)] * 3
    assert parser.idle() == []


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        (LineForm(), b"\x02DEAD\x02DEADBEEF\x03"),
        (LineForm(start=b"\x02", end=b"\x03"), b"\x02DEAD\x02DEADBEEF\x03"),
        (LineForm(start=b"\x02", end=b"\x03"), b"0D0E\x03\x02DEADBEEF\x03"),
        (LineForm(start=b":"), b"0D0E\r\n:DEADBEEF\r\n"),
        (LineForm(end=b"\x03", max_bytes=16), b"A" * 100 + b"\x03DEADBEEF\x03"),
    ],
)
def test_a_frame_that_has_lost_an_end_costs_itself_only(form: LineForm, raw: bytes) -> None:
    events = LineParser(form).feed(raw)
    assert [type(event) for event in events] == [Dropped, Line]
    assert events[1] == Line("DEADBEEF")


@pytest.mark.parametrize("rest", [b"", b"\x00", b"BE"])
def test_a_spoilt_line_is_dropped_up_to_its_end_and_the_next_one_read(rest: bytes) -> None:
    parser = LineParser(LineForm())
    assert parser.feed(b"DEAD") == []
    parser.spoil("bytes were lost")
    [dropped, line] = parser.feed(rest + b"EF\rDEADBEEF\r")
    assert isinstance(dropped, Dropped)
    assert dropped.why == "bytes were lost"
    assert line == Line("DEADBEEF")


def test_the_names_of_frame_bytes() -> None:
    assert frame_bytes("STX") == b"\x02"
    assert frame_bytes("CR LF ETX") == b"\r\n\x03"
    assert frame_bytes("0x02") == b"\x02"
    assert frame_bytes(":") == b":"
    assert frame_bytes("\x02") == b"\x02"
    with pytest.raises(ValueError, match="8 bytes"):
        frame_bytes("ABCDEFGHI")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (bytes.fromhex("F88000E69E7806FE"), "wrong baud"),
        (b"\x02DEADBEEF\xff\x03", "STX"),
        (b"\x00" * 8, "without signal"),
        (b"DEAD\x00BEEF", "parity"),
        (bytes.fromhex("0000FF0CF4D54B0101"), "pn532"),
        (bytes.fromhex("AABB090000000302"), "sl500"),
    ],
)
def test_what_was_dropped_is_told_by_its_kind_and_never_repeated(raw: bytes, words: str) -> None:
    shape = shape_of(raw)
    assert words in shape.kind + shape.proposal
    assert "DEADBEEF" not in shape.kind + shape.proposal


def test_a_line_that_lost_its_end_is_a_number_only_when_it_can_be_whole() -> None:
    # A reader that ends its lines loses power after 8 of 14 digits: those are somebody's 4-byte UID.
    parser = LineParser(LineForm(ends_by_silence=True))
    assert parser.feed(b"DEADBEEF") + parser.idle() == [Line("DEADBEEF")]
    assert parser.feed(b"04A1B2C3D4E5F6\r") == [Line("04A1B2C3D4E5F6")]
    [dropped] = parser.feed(b"04A1B2C3") + parser.idle()
    assert dropped == Dropped("no line end", 8)
    assert parser.feed(b"04A1B2C3D4E5F6") + parser.idle() == [Line("04A1B2C3D4E5F6")]
