"""Every parser of the protocols against streams as bad wires make them.

A stream is built from good frames, frames cut short, frames with flipped bits, two frames spliced, headers that lie and
noise, and arrives in arbitrary pieces. Whatever comes: nothing but the error that the parser names, the same events
however the bytes were cut, bounded memory, and after a silence the next good frame is read at once and alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from gateway.errors import BadMessage
from gateway.protocols import iso_dep, pn532, sl500, stx_etx, twn4
from gateway.protocols.line import LineForm, LineParser
from gateway.protocols.mfrc522 import HEALTH, Answer, Health
from gateway.protocols.selection import Selection
from gateway.protocols.wedge import WedgeParser


@dataclass(frozen=True, slots=True)
class Target:
    """One stream parser.

    Attributes:
        header: how a frame begins, for headers without a frame.
        is_frame: tells a good frame's event from those that report damage.
    """

    make: Callable[[], Any]
    good: st.SearchStrategy[bytes]
    header: bytes
    is_frame: Callable[[Any], bool]


_number = st.binary(min_size=4, max_size=10).map(lambda raw: raw.hex().upper().encode())
TARGETS = {
    "pn532": Target(
        pn532.FrameParser,
        st.one_of(
            st.builds(lambda data: pn532.frame(data, 0xD5), st.binary(min_size=1, max_size=40)),
            st.builds(lambda data: pn532.frame(data, 0xD5), st.binary(min_size=256, max_size=262)),
        ),
        bytes.fromhex("0000FF"),
        lambda event: isinstance(event, pn532.Reply),
    ),
    "sl500": Target(
        sl500.FrameParser,
        st.builds(sl500.frame, st.sampled_from([sl500.REQUEST, sl500.ANTICOLLISION]), st.binary(max_size=40)),
        b"\xaa\xbb",
        lambda event: isinstance(event, sl500.Packet),
    ),
    "stx-etx": Target(
        stx_etx.StxEtxParser,
        st.builds(stx_etx.encode, st.integers(0, 255), st.binary(min_size=4, max_size=4)),
        b"\x02",
        lambda event: isinstance(event, stx_etx.Tag),
    ),
    "line": Target(
        lambda: LineParser(LineForm()),
        _number.map(lambda text: text + b"\r"),
        b"",
        lambda event: type(event).__name__ == "Line",
    ),
    "line with prefix and pattern": Target(
        lambda: LineParser(LineForm(prefix="<", suffix=">", pattern="([0-9A-F]{8,20})", max_bytes=32)),
        _number.map(lambda text: b"<" + text + b">\r\n"),
        b"<",
        lambda event: type(event).__name__ == "Line",
    ),
    "line between STX and ETX": Target(
        lambda: LineParser(LineForm(start=b"\x02", end=b"\x03", max_bytes=32)),
        _number.map(lambda text: b"\x02" + text + b"\r\n\x03"),
        b"\x02",
        lambda event: type(event).__name__ == "Line",
    ),
    "line that ends in NUL": Target(
        lambda: LineParser(LineForm(end=b"\x00", max_bytes=32)),
        _number.map(lambda text: text + b"\x00"),
        b"",
        lambda event: type(event).__name__ == "Line",
    ),
}


@st.composite
def streams(draw: st.DrawFn, target: Target) -> bytes:
    good = target.good
    cut = st.builds(lambda wire, share: wire[: int(len(wire) * share)], good, st.floats(0, 1))
    flipped = st.builds(_flip, good, st.lists(st.integers(0, 1 << 12), min_size=1, max_size=3))
    spliced = st.builds(
        lambda one, two, share: one[: int(len(one) * share)] + two[int(len(two) * share) :], good, good, st.floats(0, 1)
    )
    # 30 D0 is a good length of a PN532 frame, of 48 bytes that never come.
    lying = st.one_of(st.binary(max_size=6), st.just(b"\x30\xd0")).map(lambda tail: target.header + tail)
    noise = st.binary(max_size=24)
    return b"".join(draw(st.lists(st.one_of(good, cut, flipped, spliced, lying, noise), max_size=10)))


def _flip(wire: bytes, places: list[int]) -> bytes:
    damaged = bytearray(wire)
    for place in places:
        at = place % (len(wire) * 8)
        damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


def _in_pieces(parser: Any, stream: bytes, sizes: list[int]) -> list[Any]:
    events: list[Any] = []
    for turn in range(len(stream)):
        size = sizes[turn % len(sizes)]
        events += parser.feed(stream[:size])
        stream = stream[size:]
        if not stream:
            break
    return events


_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=150)
def test_a_damaged_stream_gives_the_same_events_in_any_pieces(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    stream = data.draw(streams(target))
    whole = target.make()
    events = whole.feed(stream)
    pieces = target.make()
    assert _in_pieces(pieces, stream, data.draw(_sizes)) == events
    assert pieces.waiting == whole.waiting
    assert len(events) <= len(stream)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=150)
def test_after_a_silence_one_good_frame_is_one_event(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    parser = target.make()
    _in_pieces(parser, data.draw(streams(target)), data.draw(_sizes))
    parser.idle()
    good = data.draw(target.good)
    fresh = target.make().feed(good)
    assert len([event for event in fresh if target.is_frame(event)]) == 1
    assert _in_pieces(parser, good, data.draw(_sizes)) == fresh


@pytest.mark.parametrize("name", ["pn532", "sl500", "stx-etx"])
@given(data=st.data())
@settings(max_examples=150)
def test_a_frame_with_one_wrong_bit_is_no_other_frame(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    good = data.draw(target.good)
    wanted = [event for event in target.make().feed(good) if target.is_frame(event)]
    damaged = target.make().feed(_flip(good, [data.draw(st.integers(0, len(good) * 8 - 1))]))
    assert all(event in wanted for event in damaged if target.is_frame(event))


class _Stubborn(pn532.FrameParser):
    """Waits for ever for what a lying header has promised."""

    def idle(self) -> None:
        pass


class _Forgetful(stx_etx.StxEtxParser):
    """Takes each read of the port for a whole frame."""

    def feed(self, data: bytes) -> list[stx_etx.Tag | stx_etx.Dropped]:
        self.reset()
        return super().feed(data)


def test_these_streams_catch_a_parser_that_does_not_give_up_and_one_that_reads_frame_by_read() -> None:
    good = pn532.frame(b"\x4b\x00", 0xD5)

    def loses_the_next(stream: bytes) -> bool:
        parser = _Stubborn()
        parser.feed(stream)
        parser.idle()
        return parser.feed(good) != pn532.FrameParser().feed(good)

    assert find(streams(replace(TARGETS["pn532"], make=_Stubborn)), loses_the_next)
    target = replace(TARGETS["stx-etx"], make=_Forgetful)
    assert find(streams(target), lambda stream: _in_pieces(_Forgetful(), stream, [1]) != _Forgetful().feed(stream))


_reply = st.builds(
    lambda kind, number: (bytes([0, 1, kind, len(number) * 8, len(number)]) + number).hex().upper().encode() + b"\r",
    st.sampled_from([0x80, 0x40]),
    st.binary(min_size=4, max_size=10),
)
TWN4 = Target(twn4.Replies, _reply, b"0001", bool)


@given(streams(TWN4), _sizes, _reply)
@settings(max_examples=200)
def test_a_twn4_reply_is_a_tag_or_refused_and_the_next_one_is_read(
    stream: bytes, sizes: list[int], good: bytes
) -> None:
    replies = twn4.Replies()
    turn = 0
    while stream:
        size = sizes[turn % len(sizes)]
        turn += 1
        with contextlib.suppress(BadMessage):
            reply = replies.feed(stream[:size])
            if reply is not None:
                twn4.parse_search(reply)
        stream = stream[size:]
    with contextlib.suppress(BadMessage):
        replies.feed(b"\r")
    found = twn4.parse_search(replies.feed(good) or b"")
    assert found is not None
    assert found.number.hex().upper().encode() in good


_target = st.builds(
    lambda atqa, sak, uid, ats: b"\x01\x01" + atqa + bytes([sak, len(uid)]) + uid + ats,
    st.binary(min_size=2, max_size=2),
    st.integers(0, 255),
    st.sampled_from([4, 7, 10]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.binary(max_size=20),
)


@given(_target, st.floats(0, 1), st.lists(st.integers(0, 1 << 12), max_size=3))
def test_a_pn532_list_of_cards_is_whole_or_refused(listed: bytes, share: float, places: list[int]) -> None:
    damaged = _flip(listed, places)[: int(len(listed) * share)]
    with contextlib.suppress(BadMessage):
        found = pn532.parse_target(damaged)
        assert found is None or (len(found.uid) in {4, 7, 10} and found.uid in damaged)


_ats = st.builds(lambda body: bytes([len(body) + 1]) + body, st.binary(max_size=20))


@given(st.one_of(_ats, st.binary(max_size=24)), st.binary(max_size=300), st.data())
def test_an_exchange_with_any_card_ends_within_bounds(ats: bytes, command: bytes, data: st.DataObject) -> None:
    try:
        known = iso_dep.parse_ats(ats)
    except BadMessage:
        return
    assert 16 <= known.frame_bytes <= 256
    exchange = iso_dep.Exchange(command, known, data.draw(st.integers(0, 1)))
    block = st.builds(
        lambda pcb, body: bytes([pcb]) + body,
        st.sampled_from([0x02, 0x03, 0x12, 0x13, 0xA2, 0xA3, 0xB2, 0xF2, 0xC2, 0x00, 0xFF]),
        st.binary(max_size=20),
    )
    for answer in data.draw(st.lists(st.one_of(st.none(), st.just(b""), block), max_size=20)):
        assert 1 <= len(exchange.frame) <= min(known.frame_bytes, 64) - 2
        assert 0 < exchange.waiting_us <= max(63 * known.waiting_us, 5000)
        try:
            exchange.feed(answer)
        except BadMessage:
            return
        if exchange.response is not None:
            return


@given(st.lists(st.binary(min_size=6, max_size=80), max_size=110))
def test_whatever_an_rc522_reads_back_is_an_answer_and_a_walk_of_bounded_length(reads: list[bytes]) -> None:
    walk = Selection()
    for received in reads:
        answer = Answer.parse(received)
        assert len(answer.data) <= 64
        assert len(walk.frame().steps) > 0
        walk.feed(answer)
        if walk.sak is not None or walk.failed:
            break
    assert len(walk.uid) <= 10
    if walk.sak is not None:
        assert len(walk.uid) in {4, 7, 10}


@given(st.binary(min_size=1 + len(HEALTH), max_size=1 + len(HEALTH)))
def test_any_register_contents_are_a_judgement(received: bytes) -> None:
    health = Health.parse(received)
    assert bool(health.fault) or not (health.bus_dead or health.was_reset)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 767), st.integers(0, 2)), max_size=60))
def test_any_keys_type_a_line_or_nothing(events: list[tuple[int, int, int]]) -> None:
    keys, lines = WedgeParser(), LineParser(LineForm())
    for event in events:
        typed = keys.feed(*event)
        assert len(typed) <= 1
        lines.feed(typed)
