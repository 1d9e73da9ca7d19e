"""What content reading may cost a poll: cards that are pulled, fall silent or take their time, against the RC522."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.protocols.iso_dep import DESELECT
from gateway.readers.base import CardGone, CardRead, CardRefused, ReaderEvent
from gateway.readers.rc522 import driver as rc522
from gateway.readers.rc522.driver import Options
from gateway.simulator.card_memory import ClassicCard
from gateway.simulator.clocks import VirtualClock
from gateway.simulator.desfire_card import FULL, DesfireCard
from gateway.simulator.iso14443_cards import Card, RadioFrame
from tests.readers.contract import FOUR, SEVEN, taps
from tests.readers.test_rc522 import Rc522Bench
from tests.readers.test_rc522_desfire import AES_KEY, AID, POLL_MS, desfire_bench, desfire_card, longest_poll_ms

MOMENTS_MS = [quarter / 4 for quarter in range(4, 180)]


class Leaving:
    """Takes a card away some time after it came, in the middle of whatever goes on."""

    def __init__(self, bench: Rc522Bench, card: Card, after_ms: float) -> None:
        self._bench, self._card = bench, card
        self._sleep = bench.clock.sleep
        self._leaves_ns = bench.chip.field.enter(card) + after_ms * 1e6
        bench.clock.sleep = self.sleep  # type: ignore[method-assign]
        bench.wire._sleep = bench.driver._sleep = self.sleep

    def sleep(self, seconds: float) -> None:
        self._sleep(seconds)
        if self._bench.now_ns() >= self._leaves_ns:
            self._bench.chip.field.leave(self._card)


def pulled(tmp_path: Path, after_ms: float, **options: object) -> tuple[float, list[ReaderEvent], Rc522Bench]:
    bench = desfire_bench(tmp_path, AES_KEY, **options)
    Leaving(bench, desfire_card(SEVEN, AES_KEY, FULL), after_ms)
    events: list[ReaderEvent] = []
    return longest_poll_ms(bench, 400, events), events, bench


@pytest.mark.parametrize("scheme", ["ev1", "ev2"])
def test_a_card_pulled_at_any_moment_holds_no_poll_for_a_hundred_milliseconds(tmp_path: Path, scheme: str) -> None:
    refused = 0
    for after_ms in MOMENTS_MS:
        longest_ms, events, bench = pulled(tmp_path, after_ms, secure_messaging=scheme)
        assert longest_ms < POLL_MS, f"pulled after {after_ms} ms"
        kinds = [type(event) for event in events]
        assert kinds in ([], [CardRefused], [CardRead, CardGone])
        refused += CardRefused in kinds
        assert bench.reader.vitals.resets == 0
    assert refused > 5


def test_a_card_pulled_in_the_middle_is_refused_with_a_reason_and_read_as_soon_as_it_is_back(tmp_path: Path) -> None:
    for after_ms in (8, 12, 18):
        bench = desfire_bench(tmp_path, AES_KEY)
        card = desfire_card(SEVEN, AES_KEY, FULL)
        leaving = Leaving(bench, card, after_ms)
        [refused] = bench.run(110)
        assert isinstance(refused, CardRefused)
        assert "taken away" in refused.detail
        leaving._leaves_ns = 1e30
        entered_ns = bench.chip.field.enter(card)
        [read] = bench.run(80)
        assert isinstance(read, CardRead)
        assert read.seen_ns - entered_ns < 60e6
        assert bench.reader.vitals.counters["lost"] == 1


def test_a_card_that_flutters_at_the_edge_of_the_field_is_refused_once(tmp_path: Path) -> None:
    bench = desfire_bench(tmp_path, AES_KEY)
    events: list[ReaderEvent] = []
    for _ in range(8):
        Leaving(bench, desfire_card(SEVEN, AES_KEY), 12)
        assert longest_poll_ms(bench, 130, events) < POLL_MS
    assert [type(event) for event in events] == [CardRefused]
    assert bench.reader.vitals.counters["lost"] > 1
    # Whoever tries again after a breath hears it again.
    bench.run(600)
    Leaving(bench, desfire_card(SEVEN, AES_KEY), 12)
    assert [type(event) for event in bench.run(130)] == [CardRefused]


class Pondering(DesfireCard):
    """A card that takes its time before it wishes for more of it, as an applet in software does."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        super().__init__(SEVEN, AID, AES_KEY)
        self._clock, self._seconds = clock, seconds
        self.files[2] = b"00047711"

    def _block(self, frame: bytes) -> bytes | None:
        if frame[0] & 0xE2 == 0x02 or frame[0] == 0xF2:
            self._clock.sleep(self._seconds)
        return super()._block(frame)


@pytest.mark.parametrize(
    "make", [lambda _clock: thoughtful(300), lambda clock: Pondering(clock, 0.030), lambda _clock: Pensive(SEVEN, AID)]
)
def test_a_card_that_needs_longer_than_a_tap_is_refused_once_with_its_own_timing(
    tmp_path: Path, make: Callable[[VirtualClock], DesfireCard]
) -> None:
    bench = desfire_bench(tmp_path, AES_KEY)
    bench.chip.field.enter(make(bench.clock))
    events: list[ReaderEvent] = []
    # The pondering card thinks in the middle of a frame, where nobody can stop the clock.
    assert longest_poll_ms(bench, 2000, events) < POLL_MS + 30
    [refused] = taps(events)
    assert isinstance(refused, CardRefused)
    assert "too slow" in refused.detail
    assert "77 ms" in refused.detail
    assert "90 ms" in refused.detail


class Pensive(DesfireCard):
    """A card that thinks longer than a tap lasts without a word about it, and still hears that it is to end."""

    def _block(self, frame: bytes) -> bytes | None:
        return super()._block(frame) if frame == DESELECT else None


def thoughtful(thinks: int) -> DesfireCard:
    card = desfire_card(SEVEN, AES_KEY)
    card.thinks = thinks
    return card


def test_without_the_budget_a_slow_card_holds_a_poll_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rc522, "BUDGET_MS", 10_000)
    bench = desfire_bench(tmp_path, AES_KEY)
    bench.chip.field.enter(thoughtful(300))
    assert longest_poll_ms(bench, 2000) > 5 * POLL_MS


class Deaf(DesfireCard):
    """A card that goes mute in the middle of its protocol but stays where it is."""

    def __init__(self, after: int) -> None:
        super().__init__(SEVEN, AID, AES_KEY)
        self.files[2] = b"00047711"
        self._left = after

    def receive(self, frame: RadioFrame) -> RadioFrame | None:
        if self._in_protocol:
            self._left -= 1
            if self._left < 0:
                return None
        return super().receive(frame)


@pytest.mark.parametrize("after", range(5))
def test_a_card_that_goes_mute_holds_no_poll_and_the_next_one_is_read(tmp_path: Path, after: int) -> None:
    bench = desfire_bench(tmp_path, AES_KEY)
    bench.chip.field.enter(Deaf(after))
    events: list[ReaderEvent] = []
    assert longest_poll_ms(bench, 400, events) < POLL_MS
    assert [type(event) for event in events] == [CardRefused]
    bench.leave()
    bench.run(100)
    bench.chip.field.enter(desfire_card(SEVEN, AES_KEY))
    assert isinstance(taps(bench.run(200))[-1], CardRead)


def test_without_the_budget_a_mute_card_holds_a_poll_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rc522, "BUDGET_MS", 10_000)
    for after in range(5):
        bench = desfire_bench(tmp_path, AES_KEY)
        bench.chip.field.enter(Deaf(after))
        assert longest_poll_ms(bench, 400) > POLL_MS


@pytest.mark.parametrize("lost", [{1}, {2}, {5}, {3, 4}, {6, 9}])
def test_frames_lost_to_noise_are_asked_for_again_and_the_number_is_read(tmp_path: Path, lost: set[int]) -> None:
    bench = desfire_bench(tmp_path, AES_KEY)
    # A card with a short waiting time, so that there is time for repeats.
    card = desfire_card(SEVEN, AES_KEY, FULL)
    card._ATS = bytes.fromhex("067577410280")  # type: ignore[misc]
    original, turn = card.receive, iter(range(1, 10_000))

    def noisy(frame: RadioFrame) -> RadioFrame | None:
        answer = original(frame)
        return None if card._in_protocol and next(turn) in lost else answer

    card.receive = noisy  # type: ignore[method-assign]
    bench.chip.field.enter(card)
    events: list[ReaderEvent] = []
    assert longest_poll_ms(bench, 400, events) < POLL_MS
    assert isinstance(taps(events)[-1], CardRead)


def test_a_classic_pulled_at_any_moment_holds_no_poll_either(tmp_path: Path) -> None:
    for after_ms in range(1, 20):
        bench = Rc522Bench(Options(credential="classic-sector"))
        bench.reader.open()
        Leaving(bench, ClassicCard(FOUR), after_ms)
        assert longest_poll_ms(bench, 300) < POLL_MS
