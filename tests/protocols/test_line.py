"""The line parser: never a wrong line; damaged streams are in test_fuzz.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.line import Banner, Dropped, Line, LineForm, LineParser

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
