"""What every driver must keep; a driver's test subclasses ReaderContract and builds a Bench."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from gateway.access.rules import Reason
from gateway.cards.identity import CardNumber
from gateway.cards.uid import Uid
from gateway.errors import ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import CardGone, CardRead, CardRefused, Reader, ReaderEvent
from gateway.simulator.clocks import VirtualClock

FOUR = bytes.fromhex("DE AD BE EF")
OTHER = bytes.fromhex("52 9D 06 E3")
SEVEN = bytes.fromhex("04 A1 B2 C3 D4 E5 F6")
RANDOM = bytes.fromhex("08 12 34 56")


class Bench(Protocol):
    """A reader, and a hand that holds cards to it."""

    reader: Reader

    def enter(self, uid: bytes) -> None:
        """Bring a card to the reader."""

    def leave(self) -> None:
        """Take it away."""

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        """Own the reader for a while: poll, pause, poll."""

    def now_ns(self) -> int: ...

    def kill(self) -> None:
        """Make the reader vanish."""

    def revive(self) -> None: ...


def run_on(clock: VirtualClock, reader: Reader, milliseconds: float) -> list[ReaderEvent]:
    """Own a reader for a while of a virtual clock."""
    events: list[ReaderEvent] = []
    end_ns = clock.now_ns() + milliseconds * 1e6
    while clock.now_ns() < end_ns:
        events += reader.poll()
        clock.sleep(reader.pause_seconds)
    return events


_FAR_TOO_LATE_SECONDS = 0.4


def _waited_seconds() -> float:
    """Return how long this thread was ready to run and had no processor, where the kernel counts that."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Stopwatch:
    """Polls a reader, tells it signals, and keeps what took too long.

    Attributes:
        late: (what, seconds) of every poll over 100 ms, every signal over 10 ms and every opening over 2 s.
    """

    def __init__(self, reader: Reader) -> None:
        self.late: list[tuple[str, float]] = []
        self.calls = 0
        self._reader = reader

    def _time(self, what: str, limit_seconds: float, call: Callable[[], object]) -> None:
        begin, waited = time.monotonic(), _waited_seconds()
        try:
            call()
        finally:
            self.calls += 1
            # A figure that could not be read the second time takes nothing away.
            took = time.monotonic() - begin - max(0.0, _waited_seconds() - waited)
            if took > limit_seconds:
                self.late.append((what, took))

    def open(self) -> None:
        self._time("open", 2.0, self._reader.open)

    def run(self, seconds: float) -> None:
        """Own the reader for a while, or until it is offline."""
        end, turn = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            turn += 1
            signal = list(Signal)[turn % len(Signal)]
            self._time("signal", 0.01, lambda signal=signal: self._reader.signal(signal))
            try:
                self._time("poll", 0.1, self._reader.poll)
            except ReaderOffline:
                return
            time.sleep(self._reader.pause_seconds)

    def check(self) -> None:
        """Fail for what is late, but for one call and one in fifty, and by no more than the machine's other work."""
        assert len(self.late) <= 1 + self.calls / 50, self.late
        assert all(took < _FAR_TOO_LATE_SECONDS for what, took in self.late if what != "open"), self.late


class HeldUpBench(Bench, Protocol):
    """A bench whose reader can be held up."""

    def stick(self) -> None:
        """Let the reader stop in the middle of whatever it does."""

    def babble(self) -> None:
        """Let it say nonsense, as fast as the line takes it, until `calm`."""

    def calm(self) -> None: ...


class HeldUpContract:
    """What drivers of talking and asked readers keep beside ReaderContract; subclasses give the same `bench`."""

    @pytest.mark.parametrize("fault", ["stick", "babble", "kill"])
    def test_polls_signals_and_openings_end_in_time_and_the_reader_works_again(
        self, bench: HeldUpBench, fault: str
    ) -> None:
        watch = Stopwatch(bench.reader)
        watch.open()
        bench.enter(FOUR)
        watch.run(0.1)
        getattr(bench, fault)()
        watch.run(2.0)
        bench.reader.close()
        with contextlib.suppress(ReaderOffline):
            watch.open()
            watch.run(0.5)
        bench.reader.close()
        bench.leave()
        bench.calm()
        watch.open()
        assert bench.reader.vitals.state == "ready"
        bench.enter(OTHER)
        numbers = [event.number.value for event in bench.run(800) if isinstance(event, CardRead)]
        assert numbers == [OTHER]
        watch.check()


def taps(events: list[ReaderEvent]) -> list[ReaderEvent]:
    return [event for event in events if not isinstance(event, CardGone)]


class ReaderContract:
    """Subclasses give a `bench` fixture whose reader is closed; they may narrow the attributes."""

    reads_seven_bytes = True
    says_gone = True

    @pytest.fixture
    def opened(self, bench: Bench) -> Bench:
        bench.reader.open()
        return bench

    def test_an_opened_reader_is_ready_and_an_idle_one_is_silent(self, opened: Bench) -> None:
        assert opened.reader.vitals.state == "ready"
        assert opened.run(200) == []

    def test_a_presentation_is_one_read_with_its_number_and_time(self, opened: Bench) -> None:
        before_ns = opened.now_ns()
        opened.enter(FOUR)
        [read] = taps(opened.run(300))
        assert isinstance(read, CardRead)
        assert read.reader == opened.reader.name
        assert read.number == CardNumber.of_uid(Uid(FOUR))
        assert before_ns < read.seen_ns < opened.now_ns()
        assert opened.reader.vitals.presentations == 1

    def test_a_card_left_lying_stays_one_presentation(self, opened: Bench) -> None:
        opened.enter(FOUR)
        assert len(taps(opened.run(1500))) == 1

    def test_a_card_that_leaves_and_comes_back_is_read_again(self, opened: Bench) -> None:
        for _ in range(3):
            opened.enter(FOUR)
            assert len(taps(opened.run(300))) == 1
            opened.leave()
            gone = opened.run(700)
            assert [type(event) for event in gone] == ([CardGone] if self.says_gone else [])

    def test_another_card_right_after_the_first_is_read_at_once(self, opened: Bench) -> None:
        opened.enter(FOUR)
        opened.run(250)
        opened.leave()
        opened.enter(OTHER)
        [read] = taps(opened.run(250))
        assert isinstance(read, CardRead)
        assert read.number.value == OTHER

    def test_a_seven_byte_uid_is_whole_or_refused_with_a_reason(self, opened: Bench) -> None:
        opened.enter(SEVEN)
        [event] = taps(opened.run(300))
        if self.reads_seven_bytes:
            assert isinstance(event, CardRead)
            assert event.number.value == SEVEN
        else:
            assert isinstance(event, CardRefused)
            assert event.reason == Reason.CARD_FORMAT

    def test_a_random_uid_is_refused_and_never_named(self, opened: Bench) -> None:
        opened.enter(RANDOM)
        [event] = taps(opened.run(300))
        assert isinstance(event, CardRefused)
        assert event.reason == Reason.CARD_RANDOM_UID
        assert not hasattr(event, "number")

    def test_no_event_prints_a_card_number(self, opened: Bench) -> None:
        opened.enter(FOUR)
        text = repr(opened.run(300)).upper()
        assert FOUR.hex().upper() not in text
        assert FOUR[::-1].hex().upper() not in text

    def test_a_vanished_reader_says_so_and_works_again_after_it_is_back(self, opened: Bench) -> None:
        opened.kill()
        with pytest.raises(ReaderOffline):
            opened.run(3000)
        assert opened.reader.vitals.state == "offline"
        opened.reader.close()
        with pytest.raises(ReaderOffline):
            opened.reader.open()
        opened.reader.close()
        opened.revive()
        opened.reader.open()
        assert opened.reader.vitals.state == "ready"
        assert opened.reader.vitals.reopens == 1
        opened.enter(OTHER)
        [read] = taps(opened.run(300))
        assert isinstance(read, CardRead)
        assert read.number.value == OTHER

    def test_a_poll_comes_back_soon(self, opened: Bench) -> None:
        begin = time.monotonic()
        for _ in range(5):
            opened.reader.poll()
        assert time.monotonic() - begin < 5 * 0.1

    def test_signals_never_raise_even_when_closed(self, bench: Bench) -> None:
        for signal in Signal:
            assert bench.reader.signal(signal) in {True, False}

    def test_closing_twice_is_fine(self, opened: Bench) -> None:
        opened.reader.close()
        opened.reader.close()
