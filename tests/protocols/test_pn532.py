"""PN532 frames against published exchanges; damaged streams are in test_fuzz.py."""

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
