"""SL500 frames against published exchanges and structured noise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.sl500 import (
    ANTICOLLISION,
    GET_MODEL,
    REQUEST,
    REQUEST_ALL,
    FrameParser,
    Packet,
    frame,
    has_seven_bytes,
)


def test_published_frames() -> None:
    assert frame(REQUEST, REQUEST_ALL) == bytes.fromhex("AABB 0600 0000 0102 52 51")
    [selected] = FrameParser().feed(bytes.fromhex("aabb 0700 5251 0302 00 08 0a"))
    assert (selected.command, selected.status, selected.data) == (0x0203, 0, b"\x08")


def test_the_model_as_it_is_published() -> None:
    # StrongLink, SL500 communication protocol V35, section 3.1.2
    assert frame(GET_MODEL) == bytes.fromhex("AABB05000000040105")
    [model] = FrameParser().feed(bytes.fromhex("AABB11001112040100534C3530304C2D3036303843"))
    assert (model.command, model.status, model.data) == (GET_MODEL, 0, b"SL500L-0608")


@pytest.mark.parametrize(("atqa", "seven"), [("0400", False), ("0200", False), ("4400", True), ("4403", True)])
def test_the_answer_to_a_request_tells_how_long_the_uid_is(atqa: str, seven: bool) -> None:
    assert has_seven_bytes(bytes.fromhex(atqa)) is seven


def test_an_aa_inside_is_stuffed_with_a_zero_that_counts_nowhere() -> None:
    # Published write of a block: the length does not count the stuffed byte.
    wire = bytes.fromhex("AABB1600000009020100112233445566778899AA00BBCCDDEEFF0A")
    assert frame(0x0209, bytes.fromhex("0100112233445566778899AABBCCDDEEFF")) == wire
    assert FrameParser().feed(wire) == [Packet(0x0209, bytes.fromhex("0100112233445566778899AABBCCDDEEFF"))]


_good = st.builds(frame, st.just(ANTICOLLISION), st.binary(max_size=20))
_broken = st.one_of(st.binary(max_size=10), _good.map(lambda wire: wire[: len(wire) // 2]))


@given(_broken, st.binary(max_size=20))
def test_a_new_header_always_starts_anew(broken: bytes, data: bytes) -> None:
    # A trailing AA would stuff the next header's first byte; the idle gap takes it away.
    parser = FrameParser()
    parser.feed(broken)
    parser.idle()
    assert parser.feed(frame(ANTICOLLISION, data)) == [Packet(ANTICOLLISION, data)]


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


@given(st.binary(min_size=4, max_size=4), st.data())
def test_one_flipped_bit_is_never_another_answer(uid: bytes, draw: st.DataObject) -> None:
    wire = frame(ANTICOLLISION, b"\x00" + uid)
    bit = draw.draw(st.integers(0, len(wire) * 8 - 1))
    flipped = (int.from_bytes(wire, "big") ^ 1 << bit).to_bytes(len(wire), "big")
    for packet in FrameParser().feed(flipped):
        assert packet == Packet(ANTICOLLISION, b"\x00" + uid)
