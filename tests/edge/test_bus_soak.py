"""Minutes of taps at the readers of one bus, with brown-outs and chips that vanish: nobody pays for the others."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from gateway.edge.buses import BusThread
from gateway.readers.base import CardRead
from gateway.readers.rc522.driver import Options
from tests.edge.bus_bench import Bus


@dataclass
class Presentation:
    reader: str
    uid: bytes
    clean: bool
    reads: int = 0


class Soak:
    def __init__(self, seed: int, group: str, count: int = 3) -> None:
        self.chance = random.Random(seed)
        self.bus = Bus(count, options=Options(antenna_group=group))
        if group:
            for place, chip in enumerate(self.bus.chips):
                for other in self.bus.chips[:place]:
                    chip.field.couple(other.field)
        self.now: list[Presentation | None] = [None] * count
        self.next_change_ns = [0] * count
        self.spoilt_until_ns = [0] * count
        self.back_ns = [0] * count
        self.vanished = [False] * count
        self.next_fault_ns = 0
        self.taps: list[Presentation] = []
        self.strange = 0
        self._seen = 0

    def run(self, seconds: float) -> None:
        end_ns = self.bus.clock.now_ns() + int(seconds * 1e9)
        while (now_ns := self.bus.clock.now_ns()) < end_ns:
            for place in range(len(self.now)):
                self.change_card(place, now_ns)
                if self.back_ns[place] and now_ns >= self.back_ns[place]:
                    self.back_ns[place] = 0
                    self.bus.chips[place].broken = None
                    self.bus.chips[place].power_cycle()
            self.change_faults(now_ns)
            self.bus.turn()
            self.count()

    def change_card(self, place: int, now_ns: int) -> None:
        if now_ns < self.next_change_ns[place]:
            return
        if self.now[place] is None:
            # An odd factor deals out every number once: two cards of one number would be counted as one read twice.
            uid = b"\x5a" + (len(self.taps) * 0x9E3779 % (1 << 24)).to_bytes(3, "big")
            # Who has vanished is excused until it has been opened again, and nobody else is.
            self.vanished[place] &= bool(self.back_ns[place]) or not self.bus.berths[place].is_open
            clean = now_ns > self.spoilt_until_ns[place] and not self.vanished[place]
            self.now[place] = Presentation(str(place), uid, clean)
            self.taps.append(self.now[place])
            self.bus.enter(place, uid)
            self.next_change_ns[place] = now_ns + self.chance.choice([100, 300, 1000]) * 1_000_000
        else:
            self.bus.chips[place].field.leave()
            self.now[place] = None
            self.next_change_ns[place] = now_ns + self.chance.randrange(150, 600) * 1_000_000

    def change_faults(self, now_ns: int) -> None:
        if now_ns < self.next_fault_ns:
            return
        self.next_fault_ns = now_ns + self.chance.randrange(300, 2000) * 1_000_000
        place = self.chance.randrange(len(self.now))
        if self.back_ns[place]:
            return
        if self.now[place] is not None:
            self.now[place].clean = False
        self.spoilt_until_ns[place] = now_ns + 200_000_000
        if self.chance.random() < 0.5:
            self.bus.chips[place].power_cycle()
        else:
            self.vanished[place] = True
            self.bus.chips[place].broken = self.chance.choice([0x00, 0xFF])
            self.bus.chips[place].field.power(on=False)
            self.back_ns[place] = now_ns + self.chance.randrange(20, 1500) * 1_000_000

    def count(self) -> None:
        for event in self.bus.events[self._seen :]:
            if isinstance(event, CardRead):
                match = [tap for tap in self.taps if (tap.reader, tap.uid) == (event.reader, event.number.value)]
                self.strange += not match
                for tap in match:
                    tap.reads += 1
        self._seen = len(self.bus.events)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["", "gate"])
def test_a_tap_at_a_sound_reader_is_read_once_whatever_befalls_its_neighbours(group: str) -> None:
    soak = Soak(11, group)
    soak.run(240)
    assert soak.strange == 0
    assert max(tap.reads for tap in soak.taps) == 1
    # Whoever is in the field when it ends may have come a moment ago.
    clean = [tap for tap in soak.taps if tap.clean and tap not in soak.now]
    assert len(clean) > 500
    assert [tap for tap in clean if not tap.reads] == []


def test_the_soak_catches_a_bus_that_loses_all_its_readers_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lose = BusThread._lose

    def lose_all(self: BusThread, berth: object, *why: object) -> None:
        for other in self._berths:
            if other.is_open or other is berth:
                lose(self, other, *why)

    monkeypatch.setattr(BusThread, "_lose", lose_all)
    soak = Soak(11, "")
    soak.run(30)
    assert any(tap.clean and not tap.reads for tap in soak.taps if tap not in soak.now)
