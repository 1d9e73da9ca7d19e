"""SL500 frames against published exchanges; damaged streams are in test_fuzz.py."""

from __future__ import annotations

import pytest

from gateway.protocols.sl500 import (
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
