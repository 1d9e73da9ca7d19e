"""TWN4 Simple Protocol against published exchanges."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadMessage
from gateway.protocols.twn4 import FoundTag, Replies, beep, led, led_blink, parse_search, set_tag_types


def test_published_requests() -> None:
    assert beep(2400, 500) == b"04076460 09F4010000\r".replace(b" ", b"")
    assert led(0x02, on=True) == b"041102\r"
    assert led_blink(0x01, 500, 500) == b"041401F401F401\r"


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (b"0000\r", None),
        (b"00018020046E401BA8\r", FoundTag(0x80, bytes.fromhex("6E401BA8"))),
        (b"000180380704D03501700703\r", FoundTag(0x80, bytes.fromhex("04D03501700703"))),
        (b"0001824008E00700001F8831FF\r", FoundTag(0x82, bytes.fromhex("E00700001F8831FF"))),
    ],
)
def test_published_replies(reply: bytes, found: FoundTag | None) -> None:
    whole = Replies().feed(reply)
    assert whole is not None
    assert parse_search(whole) == found


def test_only_iso14443a_stands_for_a_card_here() -> None:
    assert not FoundTag(0x82, bytes(8)).is_iso14443a


@given(st.binary(max_size=40))
def test_any_reply_is_a_tag_or_refused(reply: bytes) -> None:
    try:
        found = parse_search(reply)
    except BadMessage:
        return
    assert found is None or found.number in reply


@given(st.binary(max_size=700), st.integers(1, 50))
def test_any_bytes_are_a_reply_or_refused_and_the_buffer_is_bounded(data: bytes, step: int) -> None:
    replies = Replies()
    for place in range(0, len(data), step):
        with contextlib.suppress(BadMessage):
            replies.feed(data[place : place + step])
    assert len(replies._text) <= 600


def test_the_search_is_for_the_kinds_that_are_set() -> None:
    assert set_tag_types(["iso14443a"]) == b"05020000000001000000\r"
    assert set_tag_types(["iso14443a", "iso15693", "em4100", "hid-prox"]) == b"05020102000005000000\r"
