"""The line parser: never a wrong line, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.line import Banner, Dropped, Line, LineForm, LineParser

_number = st.text("0123456789ABCDEF", min_size=8, max_size=14)
_noise = st.binary(min_size=1, max_size=12)
_piece = st.one_of(
    _number.map(lambda text: text.encode() + b"\r"),
    _number.map(lambda text: text.encode() + b"\r\n"),
    _number.map(lambda text: text.encode()[: len(text) // 2]),  # valid start, no end
    st.just(b"ELA GM4.02\r"),
    _noise,
)


def lines(parser: LineParser, data: bytes) -> list[str]:
    return [event.text for event in parser.feed(data) if isinstance(event, Line)]


@given(st.lists(_piece, max_size=12), st.data())
def test_events_do_not_depend_on_how_the_bytes_were_cut(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    whole = LineParser(LineForm()).feed(stream)
    parser, cut = LineParser(LineForm()), []
    rest = stream
    while rest:
        length = data.draw(st.integers(1, len(rest)))
        cut += parser.feed(rest[:length])
        rest = rest[length:]
    assert cut == whole


@given(st.lists(_piece, max_size=8), _number)
def test_after_a_silence_the_next_good_line_always_comes_at_once(pieces: list[bytes], number: str) -> None:
    parser = LineParser(LineForm())
    parser.feed(b"".join(pieces))
    parser.idle()
    assert parser.feed(number.encode() + b"\r") == [Line(number)]
    assert not parser.waiting


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
