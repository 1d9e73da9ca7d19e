"""Readers whose antennas disturb each other: one field at a time, in turn, and a card at rest stays one tap."""

from __future__ import annotations

import random
import statistics

import pytest

from gateway.edge.antennas import SLICE_SECONDS, AntennaTurns
from gateway.readers.base import CardGone, CardRead, CardRefused
from gateway.readers.rc522.driver import Options
from gateway.simulator import iso14443_cards as cards
from tests.edge.bus_bench import Bus, reads

FOUR = bytes.fromhex("DEADBEEF")
OTHER = bytes.fromhex("529D06E3")
SEVEN = bytes.fromhex("04A1B2C3D4E5F6")


class CloseBus(Bus):
    """Neighbours side by side: two carriers at once spoil what is said; it also watches who has its field on."""

    def __init__(self, count: int, group: str = "gate") -> None:
        self.both_on = 0
        self.lit: list[tuple[int, int]] = []
        self._was_lit: int | None = None
        super().__init__(count, options=Options(antenna_group=group))
        for place, chip in enumerate(self.chips):
            for other in self.chips[:place]:
                chip.field.couple(other.field)

    def turn(self) -> None:
        super().turn()
        lit = [place for place, chip in enumerate(self.chips) if chip.field.powered]
        self.both_on += len(lit) > 1
        if lit and lit[0] != self._was_lit:
            self._was_lit = lit[0]
            self.lit.append((lit[0], self.clock.now_ns()))


def tap(bus: Bus, taps: int = 60, dwell_ms: int = 100) -> tuple[int, list[float]]:
    """Return how many of the cards held to the first reader it missed, and the milliseconds to the others' UIDs."""
    chance, times = random.Random(4), []
    for number in range(taps):
        uid = b"\x5a\x01" + number.to_bytes(2, "big")
        entered_ns = bus.enter_at(0, uid, delay_ms := chance.uniform(100, 130))
        events = [event for event in bus.run(delay_ms + dwell_ms) if isinstance(event, CardRead)]
        assert [event.number.value for event in events] in ([], [uid])
        times += [(event.seen_ns - entered_ns) / 1e6 for event in events]
        bus.chips[0].field.leave()
    return taps - len(times), sorted(times)


def test_without_a_group_two_close_antennas_miss_taps_and_with_one_none() -> None:
    apart, together = CloseBus(2, ""), CloseBus(2)
    missed, _ = tap(apart)
    assert missed > 10
    assert apart.readers[0].vitals.retries > 50
    missed, times = tap(together)
    assert missed == 0
    assert together.readers[0].vitals.retries == 0
    assert together.both_on == 0
    assert statistics.median(times) < 12
    assert times[-1] < 20


def test_the_first_frame_comes_no_sooner_than_a_card_may_need_to_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = CloseBus(2)
    lit_ns, gaps = 0, []
    original_power, original_ask = cards.Field.power, cards.Field.ask

    def power(self: cards.Field, *, on: bool) -> None:
        nonlocal lit_ns
        if on and not self.powered:
            lit_ns = bus.clock.now_ns()
        original_power(self, on=on)

    def ask(self: cards.Field, frame: tuple[int, int], *, encrypted: bool = False) -> cards.FieldAnswer | None:
        gaps.append(bus.clock.now_ns() - lit_ns)
        return original_ask(self, frame, encrypted=encrypted)

    monkeypatch.setattr(cards.Field, "power", power)
    monkeypatch.setattr(cards.Field, "ask", ask)
    bus.run(300)
    assert len(gaps) > 30
    assert min(gaps) >= 5_000_000


@pytest.mark.parametrize("uid", [FOUR, SEVEN])
def test_a_card_that_rests_through_many_dark_times_is_one_tap_and_is_gone_once(uid: bytes) -> None:
    bus = CloseBus(2)
    card = cards.classic_1k(uid) if len(uid) == 4 else cards.ntag(uid)
    bus.chips[0].field.enter(card)
    assert reads(bus.run(3000)) == [("0", uid)]
    assert len(bus.lit) > 200
    assert [event for event in bus.events if isinstance(event, CardGone)] == []
    bus.chips[0].field.leave()
    [gone] = bus.run(400)
    assert isinstance(gone, CardGone)


def test_a_phone_that_draws_a_new_number_whenever_the_field_returns_is_one_refusal() -> None:
    bus = CloseBus(2)
    phone = cards.phone()
    bus.chips[0].field.enter(phone)
    [event] = bus.run(2000)
    assert isinstance(event, CardRefused)
    bus.chips[0].field.leave(phone)
    assert [type(event) for event in bus.run(400)] == [CardGone]
    bus.chips[0].field.enter(phone)
    assert [type(event) for event in bus.run(400)] == [CardRefused]


def test_a_newcomer_beside_resting_cards_is_read_and_the_neighbour_is_not_starved() -> None:
    bus = CloseBus(2)
    bus.enter(0, FOUR)
    bus.chips[0].field.enter(cards.ntag(SEVEN))
    bus.run(500)
    bus.lit.clear()
    bus.enter(0, OTHER)
    assert reads(bus.run(60)) == [("0", OTHER)]
    bus.enter(1, FOUR)
    assert reads(bus.run(60)) == [("1", FOUR)]
    bus.run(1000)
    assert [len(reads(bus.events)), len([event for event in bus.events if isinstance(event, CardGone)])] == [4, 0]
    turns = [place for place, _ in bus.lit]
    assert abs(turns.count(0) - turns.count(1)) <= 1


def test_four_close_readers_each_read_their_card_once() -> None:
    bus = CloseBus(4)
    for place in range(4):
        bus.enter(place, bytes([0x5A, place, 3, 4]))
    assert sorted(reads(bus.run(1500))) == [(str(place), bytes([0x5A, place, 3, 4])) for place in range(4)]
    assert bus.both_on == 0


def test_a_holder_that_is_lost_leaves_the_field_to_the_other_and_comes_back_dark() -> None:
    bus = CloseBus(2)
    while bus.berths[0].antennas.holder is not bus.berths[0]:
        bus.turn()
    bus.chips[0].broken = 0xFF
    # Whoever is gone from the bus may still send; this one has lost its supply.
    bus.chips[0].field.power(on=False)
    bus.enter(1, OTHER)
    assert reads(bus.run(60)) == [("1", OTHER)]
    turns = len(bus.lit)
    bus.run(100)
    assert len(bus.lit) <= turns + 1
    bus.chips[0].broken = None
    bus.chips[0].power_cycle()
    bus.run(2000)
    bus.enter(0, FOUR)
    assert reads(bus.run(60)) == [("0", FOUR)]
    assert bus.both_on == 0
    assert [event for event in bus.events if isinstance(event, CardGone)] == []


def test_a_brown_out_in_the_dark_is_repaired_at_the_next_turn() -> None:
    bus = CloseBus(2)
    while bus.berths[0].antennas.holder is not bus.berths[1]:
        bus.turn()
    bus.chips[0].power_cycle()
    bus.enter(0, FOUR)
    assert reads(bus.run(60)) == [("0", FOUR)]
    assert bus.readers[0].vitals.resets == 1
    assert bus.both_on == 0


def test_the_others_on_the_bus_have_their_field_on_all_the_time() -> None:
    bus = CloseBus(3)
    bus.berths[2].antennas = None
    bus.chips[2].field._near.clear()
    bus.readers[2].field(on=True)
    times = []
    for number in range(30):
        uid = b"\x5a\x02\x00" + bytes([number])
        entered_ns = bus.enter_at(2, uid, number / 7)
        [read] = [event for event in bus.run(60) if isinstance(event, CardRead)]
        times.append((read.seen_ns - entered_ns) / 1e6)
        bus.chips[2].field.leave()
        bus.run(110)
    assert max(times) < 8


def test_a_closed_member_does_not_send() -> None:
    bus = CloseBus(2)
    bus.thread.start()
    bus.thread.stop()
    assert not any(chip.field.powered for chip in bus.chips)


def test_a_grouped_reader_alone_with_its_owner_is_an_ordinary_reader() -> None:
    bus = Bus(1, options=Options(antenna_group="gate"))
    bus.enter(0, FOUR)
    assert reads(bus.run(50)) == [("0", FOUR)]
    reader = bus.readers[0]
    reader.close()
    reader.open()
    assert bus.chips[0].field.powered


class TestTurns:
    def test_a_turn_ends_with_a_look_that_nobody_answered(self) -> None:
        turns = AntennaTurns("ab")
        turns.begin("a", 10.0)
        assert turns.is_over(answered=False, now=10.001)
        assert not turns.is_over(answered=True, now=10.001)

    def test_whoever_always_answers_has_one_slice_and_no_more(self) -> None:
        turns = AntennaTurns("ab")
        turns.begin("a", 10.0)
        assert turns.is_over(answered=True, now=10.0 + SLICE_SECONDS)

    def test_everybody_present_comes_before_the_same_one_again(self) -> None:
        turns = AntennaTurns("abcd")
        assert turns.queue("abcd") == ["a", "b", "c", "d"]
        turns.begin("b", 0.0)
        assert turns.queue("abcd") == ["c", "d", "a", "b"]
        assert turns.queue("bd") == ["d", "b"]
