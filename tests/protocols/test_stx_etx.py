"""STX..ETX frames against published examples; more damaged streams are in test_fuzz.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.stx_etx import Dropped, StxEtxParser, Tag, encode

_tag = st.builds(encode, st.integers(0, 255), st.binary(min_size=4, max_size=4))
_broken = st.one_of(
    _tag.map(lambda frame: frame[:7]),  # valid head, cut body
    _tag.map(lambda frame: frame[7:]),
    st.binary(min_size=1, max_size=20),
)


def test_published_frames_of_both_kinds_are_read() -> None:
    expected = [Tag(0x62, bytes.fromhex("E3086CED"))]
    assert StxEtxParser().feed(bytes.fromhex("02 36 32 45 33 30 38 36 43 45 44 30 38 03")) == expected
    assert StxEtxParser().feed(b"\x0262e3086ced08\r\n\x03") == expected


@given(_broken, st.integers(0, 255), st.binary(min_size=4, max_size=4))
def test_a_broken_frame_never_delays_the_tag_after_it(broken: bytes, version: int, number: bytes) -> None:
    assert StxEtxParser().feed(broken + encode(version, number))[-1] == Tag(version, number)


@given(st.integers(0, 255), st.binary(min_size=4, max_size=4), st.data())
def test_one_wrong_digit_is_never_a_tag(version: int, number: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode(version, number))
    place = data.draw(st.integers(1, 12))
    digit = data.draw(st.sampled_from(b"0123456789ABCDEF").filter(lambda digit: digit != frame[place]))
    frame[place] = digit
    assert all(isinstance(event, Dropped) for event in StxEtxParser().feed(bytes(frame)))


def test_a_tag_prints_its_tail_only() -> None:
    assert repr(Tag(1, bytes.fromhex("E3086CED"))) == "Tag(4 bytes, tail 6CED)"
