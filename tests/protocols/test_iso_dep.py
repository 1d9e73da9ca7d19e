"""ISO 14443-4 blocks: chains, waiting, repeats, and any bytes from the card."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadMessage
from gateway.protocols.iso_dep import RETRIES, Ats, Exchange, parse_ats

ATS = Ats(64, 77_000)


def test_the_ats_of_a_desfire_gives_frame_size_and_waiting_time() -> None:
    assert parse_ats(bytes.fromhex("067577810280")) == Ats(64, 302 << 8)
    assert parse_ats(b"\x01") == Ats(32, 302 << 4)
    for cut in (b"", b"\x06\x75", b"\x02\x70"):
        with pytest.raises(BadMessage):
            parse_ats(cut)


def test_one_block_each_way() -> None:
    exchange = Exchange(b"\x5a\x01\x02\x03", ATS, 0)
    assert exchange.frame == bytes.fromhex("02 5a 01 02 03")
    exchange.feed(b"\x02\x00")
    assert exchange.response == b"\x00"
    assert exchange.block_number == 1


def test_a_long_answer_is_acknowledged_block_by_block() -> None:
    exchange = Exchange(b"\xbd", ATS, 0)
    exchange.feed(b"\x12abc")
    assert exchange.frame == b"\xa3"
    exchange.feed(b"\x13def")
    assert exchange.frame == b"\xa2"
    exchange.feed(b"\x02ghi")
    assert exchange.response == b"abcdefghi"


def test_a_long_command_is_sent_in_blocks_that_the_card_takes() -> None:
    exchange = Exchange(bytes(100), ATS, 0)
    assert exchange.frame == b"\x12" + bytes(61)
    exchange.feed(b"\xa2")
    assert exchange.frame == b"\x03" + bytes(39)
    exchange.feed(b"\x03ok")
    assert exchange.response == b"ok"


def test_a_wish_for_time_is_granted_in_the_same_words() -> None:
    exchange = Exchange(b"\x71", ATS, 1)
    exchange.feed(b"\xf2\x05")
    assert exchange.frame == b"\xf2\x05"
    assert exchange.waiting_us == 5 * ATS.waiting_us
    exchange.feed(b"\x03ok")
    assert exchange.response == b"ok"


def test_silence_asks_again_and_then_gives_up() -> None:
    exchange = Exchange(b"\x71", ATS, 0)
    for _ in range(RETRIES):
        exchange.feed(None)
        assert exchange.frame == b"\xb2"
    with pytest.raises(BadMessage, match="stopped answering"):
        exchange.feed(None)


@given(st.binary(max_size=80), st.lists(st.one_of(st.none(), st.binary(max_size=64)), max_size=12))
def test_whatever_the_card_sends_the_exchange_ends_in_an_answer_a_frame_or_a_refusal(
    command: bytes, answers: list[bytes | None]
) -> None:
    exchange = Exchange(command, ATS, 0)
    with contextlib.suppress(BadMessage):
        for answer in answers:
            if exchange.response is not None:
                break
            exchange.feed(answer)
            assert 0 < len(exchange.frame) <= 62
