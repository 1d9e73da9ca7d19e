"""The PC/SC driver on the real thing: pyscard, pcscd, a virtual reader, and cards that behave badly."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.rules import Reason
from gateway.errors import ReaderOffline
from gateway.readers.base import CardGone, CardRead, CardRefused
from gateway.readers.masking import mask, play
from gateway.readers.pcsc import Options, make
from gateway.transports.real import RealTransports
from gateway.transports.trace import Recorder
from tests.readers.contract import FOUR, OTHER, RANDOM, SEVEN, taps
from tests.readers.pcscd_bench import NAME, PcscdBench, contactless, missing, pcscd_folder

pytest.importorskip("smartcard", reason="needs the extra pcsc")
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "pcscd is here")

__all__ = ["pcscd_folder"]


@pytest.fixture
def bench(pcscd_folder: Path) -> Iterator[PcscdBench]:
    made = PcscdBench(pcscd_folder)
    made.reader.open()
    yield made
    made.close()
    # One poll in fifty may meet a busy machine; a driver that waits for its card is over it with every card.
    assert len(made.slow_polls) <= 1 + made.polls / 50, made.slow_polls


def test_a_card_is_read_once_and_gone_when_it_has_gone(bench: PcscdBench) -> None:
    assert NAME in bench.reader.vitals.firmware
    assert bench.run(0) == []
    for uid in (FOUR, SEVEN, bytes.fromhex("0102030405060708090A")):
        bench.enter(uid)
        read = bench.until(CardRead)
        assert read.number.value == uid
        assert bench.run(300) == [], "a card that rests is one presentation"
        bench.leave()
        bench.until(CardGone)


def test_twenty_changes_of_two_cards_are_twenty_right_numbers(bench: PcscdBench) -> None:
    read: list[bytes] = []
    for turn in range(20):
        bench.leave()
        bench.enter(FOUR if turn % 2 else SEVEN)
        end = time.monotonic() + 10
        while len(read) <= turn:
            assert time.monotonic() < end, f"change {turn} was not read"
            read += [event.number.value for event in taps(bench.poll())]
    assert read == [FOUR if turn % 2 else SEVEN for turn in range(20)]


def test_a_card_that_is_pulled_in_the_middle_of_an_answer_is_no_card_and_the_next_is_read(bench: PcscdBench) -> None:
    for turn in range(5):
        card = bench.hold(lambda _apdu: None)
        end = time.monotonic() + 10
        while not card.asked:
            assert time.monotonic() < end, f"card {turn} was not asked"
            assert taps(bench.poll()) == []
        bench.leave()
        bench.enter(OTHER)
        end = time.monotonic() + 10
        read: list[bytes] = []
        while not read:
            assert time.monotonic() < end
            read = [event.number.value for event in taps(bench.poll())]
        assert read == [OTHER]
        bench.leave()
        bench.until(CardGone)
    assert bench.reader.vitals.retries >= 5


def test_a_card_that_stops_in_the_middle_of_an_answer_holds_up_nobody(bench: PcscdBench) -> None:
    let_go = threading.Event()

    def hang(_apdu: bytes) -> None:
        let_go.wait(60)

    card = bench.hold(hang)
    with pytest.raises(ReaderOffline, match="hangs"):
        bench.run(12_000)
    assert card.asked
    bench.reader.close()
    begin = time.monotonic()
    with pytest.raises(ReaderOffline, match="still hangs"):
        bench.reader.open()
    assert time.monotonic() - begin < 2
    before = threading.active_count()
    let_go.set()
    bench.leave()
    end = time.monotonic() + 10
    while threading.active_count() >= before:
        assert time.monotonic() < end, "the hanging call has not ended"
        time.sleep(0.02)
    bench.reader.open()
    bench.enter(FOUR)
    assert bench.until(CardRead).number.value == FOUR


def test_pcscd_that_dies_is_said_and_its_return_is_noticed(bench: PcscdBench) -> None:
    bench.enter(FOUR)
    bench.until(CardRead)
    bench.kill()
    with pytest.raises(ReaderOffline):
        bench.run(5000)
    assert bench.reader.vitals.state == "offline"
    bench.leave()
    for _ in range(3):
        begin = time.monotonic()
        with pytest.raises(ReaderOffline, match="is not running"):
            bench.reader.open()
        assert time.monotonic() - begin < 2
    bench.revive()
    bench.reader.open()
    assert bench.reader.vitals.reopens == 1
    bench.enter(OTHER)
    read = [event for event in bench.run(1000) if isinstance(event, CardRead)]
    assert [event.number.value for event in read] == [OTHER]


def test_a_phone_and_a_card_without_number_are_refused_with_their_reasons(bench: PcscdBench) -> None:
    bench.enter(RANDOM)
    assert bench.until(CardRefused).reason == Reason.CARD_RANDOM_UID
    bench.leave()
    bench.until(CardGone)
    bench.hold(lambda _apdu: b"\x6a\x81")
    refused = bench.until(CardRefused)
    assert refused.reason == Reason.CARD_FORMAT
    assert "ISO 15693" in refused.detail


def test_a_reader_that_is_not_there_is_named_within_two_seconds(bench: PcscdBench) -> None:
    other = make("desk", "OMNIKEY", Options(), RealTransports())
    begin = time.monotonic()
    with pytest.raises(ReaderOffline, match="OMNIKEY"):
        other.open()
    assert time.monotonic() - begin < 2
    assert other.signal is not None
    other.close()


def test_what_happens_is_recorded_masked_and_played_again(bench: PcscdBench) -> None:
    bench.reader.close()
    out = io.StringIO()
    bench.reader = make("desk", NAME, Options(), Recorder(RealTransports(), out, "pcsc", {}))
    bench.reader.open()
    events = []
    for answer in (contactless(FOUR), lambda _apdu: None, contactless(SEVEN)):
        bench.hold(answer)
        events += bench.run(0)
        bench.leave()
        events += bench.run(300)
    bench.kill()
    with pytest.raises(ReaderOffline):
        bench.run(5000)
    bench.reader.close()
    read = [event.number.value for event in events if isinstance(event, CardRead)]
    assert read == [FOUR, SEVEN]
    masked = mask([json.loads(line) for line in out.getvalue().splitlines()], read)
    assert not any(number.hex() in json.dumps(masked) for number in read)
    played, _ = play(masked)
    assert [(type(event), event.seen_ns) for event in played] == [(type(event), event.seen_ns) for event in events]


def test_the_bench_catches_a_driver_that_waits_for_the_card_on_its_own_thread(bench: PcscdBench) -> None:
    from smartcard import scard

    bench.reader.close()
    bench.hold(lambda apdu: (time.sleep(0.3), contactless(FOUR)(apdu))[1])
    context = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)[1]
    name = scard.SCardListReaders(context, [])[1][0]

    class Waits:
        def poll(self) -> list:
            connected = scard.SCardConnect(context, name, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T1)
            if connected[0] == scard.SCARD_S_SUCCESS:
                scard.SCardTransmit(connected[1], connected[2], [0xFF, 0xCA, 0, 0, 0])
                scard.SCardDisconnect(connected[1], scard.SCARD_LEAVE_CARD)
            return []

        def close(self) -> None:
            scard.SCardReleaseContext(context)

    bench.reader = Waits()
    end = time.monotonic() + 5
    while not bench.slow_polls and time.monotonic() < end:
        bench.poll()
    assert bench.slow_polls
    bench.slow_polls.clear()
