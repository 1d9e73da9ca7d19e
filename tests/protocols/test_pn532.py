"""PN532 frames against published exchanges; structured noise never swallows the frame behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadMessage
from gateway.protocols import pn532
from gateway.protocols.pn532 import Acknowledged, FrameParser, Refused, Reply, Target, frame, parse_target


@pytest.mark.parametrize(
    ("command", "wire"),
    [
        (pn532.SAM_CONFIGURATION, "00 00 FF 05 FB D4 14 01 17 00 00 00"),
        (pn532.GET_FIRMWARE_VERSION, "00 00 FF 02 FE D4 02 2A 00"),
        (pn532.LIST_ONE_ISO14443A, "00 00 FF 04 FC D4 4A 01 00 E1 00"),
    ],
)
def test_commands_as_they_go_over_the_wire(command: bytes, wire: str) -> None:
    assert frame(command) == bytes.fromhex(wire)


def test_a_published_answer_with_a_card() -> None:
    wire = bytes.fromhex("0000FF00FF00 0000FF0CF4 D54B 01010004 0804 FB0EE20B D8 00")
    acknowledged, reply = FrameParser().feed(wire)
    assert acknowledged == Acknowledged()
    assert isinstance(reply, Reply)
    assert parse_target(reply.data) == Target(bytes.fromhex("0400"), 0x08, bytes.fromhex("FB0EE20B"))


def test_extended_and_error_frames() -> None:
    long = frame(b"\x01" + bytes(259), 0xD5)
    assert long.startswith(bytes.fromhex("0000FFFFFF"))
    assert FrameParser().feed(long) == [Reply(0x01, bytes(259))]
    assert FrameParser().feed(bytes.fromhex("0000FF01FF7F8100")) == [Refused("syntax error")]


_good = st.builds(lambda data: frame(data, 0xD5), st.binary(min_size=1, max_size=30))
_broken = st.one_of(
    st.binary(max_size=10),
    _good.map(lambda wire: wire[: len(wire) // 2]),
    st.just(bytes.fromhex("00FF30D0")),  # claims 48 bytes that never come
)


@given(_broken, st.binary(min_size=1, max_size=20))
def test_after_a_silence_the_next_good_frame_is_always_read(broken: bytes, data: bytes) -> None:
    parser = FrameParser()
    parser.feed(broken)
    parser.idle()
    assert parser.feed(frame(data, 0xD5)) == [Reply(data[0], data[1:])]


@given(st.lists(st.one_of(_good, _broken), max_size=8), st.data())
def test_events_do_not_depend_on_how_the_bytes_were_cut(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    whole = FrameParser().feed(stream)
    parser, cut = FrameParser(), []
    while stream:
        length = data.draw(st.integers(1, len(stream)))
        cut += parser.feed(stream[:length])
        stream = stream[length:]
    assert cut == whole


@given(st.binary(min_size=1, max_size=20), st.data())
def test_one_flipped_bit_never_gives_an_answer_with_other_bytes(data: bytes, draw: st.DataObject) -> None:
    wire = frame(data, 0xD5)
    bit = draw.draw(st.integers(0, len(wire) * 8 - 1))
    flipped = (int.from_bytes(wire, "big") ^ 1 << bit).to_bytes(len(wire), "big")
    for event in FrameParser().feed(flipped):
        assert not isinstance(event, Reply) or event == Reply(data[0], data[1:])


@pytest.mark.parametrize(
    "data", [b"", b"\x01", bytes.fromhex("010100040804FB0E"), bytes.fromhex("01010004080301020304")]
)
def test_a_cut_list_of_cards_is_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_target(data)


@given(st.binary(max_size=600))
def test_no_bytes_raise_and_the_buffer_is_bounded(data: bytes) -> None:
    parser = FrameParser()
    for _ in range(3):
        parser.feed(data)
    assert len(parser._buffer) < 300
