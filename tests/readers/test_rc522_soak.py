"""Half an hour of taps with brown-outs, bus errors, unplugs and bit errors, on a clock that runs as fast as it can."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gateway.errors import ReaderOffline
from gateway.protocols.selection import Selection
from gateway.readers.base import CardRead
from gateway.readers.presence import Presence
from gateway.readers.rc522 import driver as rc522
from gateway.simulator import iso14443_cards as cards
from tests.readers.test_rc522 import Rc522Bench

_BACK_OFF_SECONDS = 0.25


@dataclass
class Presentation:
    uid: bytes
    entered_ns: int
    left_ns: int = 0
    clean: bool = True
    reads: int = 0


@dataclass
class Outcome:
    presentations: list[Presentation] = field(default_factory=list)
    wrong: list[bytes] = field(default_factory=list)

    @property
    def duplicated(self) -> int:
        return sum(item.reads > 1 for item in self.presentations)

    @property
    def missed(self) -> int:
        return sum(item.reads == 0 for item in self.presentations if item.clean)


class NoisyLine:
    """The chip's line with faults that are switched on and off."""

    def __init__(self, bench: Rc522Bench, chance: random.Random) -> None:
        self._chip = bench.chip
        self._chance = chance
        self.errors_left = 0
        self.flips_per_byte = 0.0

    def transfer(self, data: bytes) -> bytes:
        if self.errors_left:
            self.errors_left -= 1
            raise OSError(5, "Input/output error")
        answer = self._chip.transfer(data)
        if self.flips_per_byte and self._chance.random() < self.flips_per_byte * len(answer):
            spoilt = bytearray(answer)
            spoilt[self._chance.randrange(len(spoilt))] ^= 1 << self._chance.randrange(8)
            return bytes(spoilt)
        return answer


class Soak:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.bench = Rc522Bench()
        self.line = NoisyLine(self.bench, self.chance)
        self.bench.wire._chip = self.line
        self.outcome = Outcome()
        self.now: Presentation | None = None
        self.card: cards.Card | None = None
        self.next_change_ns = 0
        self.next_fault_ns = self.bench.now_ns() + 2_000_000_000
        self.end_fault: tuple[int, Callable[[], None]] | None = None
        self.offline_until_ns = 0

    def run(self, minutes: float) -> Outcome:
        clock = self.bench.clock
        end_ns = clock.now_ns() + int(minutes * 60e9)
        opened = False
        while clock.now_ns() < end_ns:
            self.change_cards(clock.now_ns())
            self.change_faults(clock.now_ns())
            try:
                if not opened:
                    self.bench.reader.open()
                    opened = True
                for event in self.bench.reader.poll():
                    if isinstance(event, CardRead):
                        self.read(event.number.value, event.seen_ns)
                clock.sleep(self.bench.reader.pause_seconds)
            except ReaderOffline:
                opened = False
                self.bench.reader.close()
                self.spoil()
                clock.sleep(_BACK_OFF_SECONDS)
        return self.outcome

    def read(self, uid: bytes, seen_ns: int) -> None:
        recent = [item for item in self.outcome.presentations[-2:] if item.uid == uid]
        if not recent or seen_ns < recent[-1].entered_ns:
            self.outcome.wrong.append(uid)
        else:
            recent[-1].reads += 1

    def change_cards(self, now_ns: int) -> None:
        if now_ns < self.next_change_ns:
            return
        if self.now is None:
            uid = self.chance.choice([b"\x5a", b"\x04\x11\x22\x33"]) + self.chance.randbytes(3)
            self.card = cards.classic_1k(uid) if len(uid) == 4 else cards.ntag(uid)
            self.now = Presentation(uid, self.bench.chip.field.enter(self.card))
            self.now.clean = self.end_fault is None
            self.outcome.presentations.append(self.now)
            dwell_ms = self.chance.choice([30, 60, 100, 300, 300, 1000, 3000])
            self.next_change_ns = now_ns + dwell_ms * 1_000_000
        else:
            self.now.left_ns = now_ns
            self.bench.chip.field.leave()
            self.now = None
            self.next_change_ns = now_ns + self.chance.randrange(100, 600) * 1_000_000

    def change_faults(self, now_ns: int) -> None:
        if self.end_fault and now_ns >= self.end_fault[0]:
            self.end_fault[1]()
            self.end_fault = None
        if now_ns < self.next_fault_ns:
            return
        self.next_fault_ns = now_ns + self.chance.randrange(500, 4000) * 1_000_000
        self.spoil()
        fault = self.chance.choice(["brown-out", "errors", "unplug", "flips"])
        if fault == "brown-out":
            self.bench.chip.power_cycle()
        elif fault == "errors":
            self.line.errors_left = self.chance.randrange(1, 6)
        elif fault == "flips":
            self.line.flips_per_byte = 0.002
            self.end_fault = (now_ns + 300_000_000, self.quiet)
        else:
            self.bench.kill()
            self.end_fault = (now_ns + self.chance.randrange(20, 1500) * 1_000_000, self.bench.revive)

    def quiet(self) -> None:
        self.line.flips_per_byte = 0.0

    def spoil(self) -> None:
        # A tap that meets a fault may be lost, when it leaves before the reader is back; never doubled, never wrong.
        if self.now:
            self.now.clean = False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_half_an_hour_of_faults_gives_one_tap_a_presentation_and_never_a_wrong_number() -> None:
    outcome = Soak(7).run(30)
    assert len(outcome.presentations) > 1500
    assert sum(item.clean for item in outcome.presentations) > 800
    assert outcome.wrong == []
    assert outcome.duplicated == 0
    assert outcome.missed == 0


def test_the_soak_catches_a_reader_that_counts_every_flicker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rc522, "Presence", lambda _rearm_ms: Presence(0, misses=1))
    assert Soak(7).run(3).duplicated > 0


def test_the_soak_catches_a_reader_without_health_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rc522.Rc522Reader, "_check_health", lambda *_args, **_words: None)
    assert Soak(7).run(3).missed > 0


def test_the_soak_catches_a_reader_that_does_not_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    def gullible(self: Selection, answer) -> None:
        self.uid, self.sak = b"\x5a" + answer.data[1:4].ljust(3, b"\0"), 0x08

    monkeypatch.setattr(Selection, "_feed_anticollision", gullible)
    outcome = Soak(7).run(3)
    assert outcome.wrong
