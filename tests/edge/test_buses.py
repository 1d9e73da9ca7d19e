"""Several readers on one bus: their frames are in the air together, and the fault of one is nobody else's."""

from __future__ import annotations

import ctypes
import random
import statistics
import sys
import threading
from collections.abc import Callable

import pytest

from gateway.edge.buses import BusThread
from gateway.readers.base import CardGone, CardRead
from gateway.service import Beats
from tests.edge.bus_bench import Bus, reads

FOUR = bytes.fromhex("DEADBEEF")
OTHER = bytes.fromhex("529D06E3")
_PR_GET_TIMERSLACK = 30


def times_ms(count: int, *, polled: bool, taps: int = 120) -> list[float]:
    """Tap at the first reader while cards rest at the others; milliseconds from the card's entry to its number."""
    bus, chance, times = Bus(count, polled=polled), random.Random(1), []
    for place in range(1, count):
        bus.enter(place, bytes([1, 2, 3, place]))
    bus.run(50)
    for number in range(taps):
        due_ns = bus.enter_at(0, b"\x5a\x00" + number.to_bytes(2, "big"), chance.uniform(1, 20))
        found = [event for event in bus.run(chance.randrange(60, 90)) if isinstance(event, CardRead)]
        times += [(event.seen_ns - due_ns) / 1e6 for event in found]
        bus.chips[0].field.leave()
    assert len(times) == taps
    return sorted(times)


def test_four_readers_gain_clearly_when_their_frames_are_in_the_air_together() -> None:
    together, in_turn = times_ms(4, polled=False), times_ms(4, polled=True)
    assert statistics.median(together) < 0.85 * statistics.median(in_turn)
    assert together[-6] < 0.75 * in_turn[-6]


def test_each_of_two_and_four_readers_is_near_to_one_alone() -> None:
    alone = statistics.median(times_ms(1, polled=False))
    assert alone < 4
    assert statistics.median(times_ms(2, polled=False)) < 1.25 * alone
    assert statistics.median(times_ms(4, polled=False)) < 1.5 * alone


def test_a_lone_reader_looks_with_one_call_of_seven_transfers() -> None:
    bus = Bus(1)
    bus.run(10)
    bus.calls.clear()
    bus.run(10)
    assert len(bus.calls) > 8
    assert set(bus.calls) == {("0", 7)}


def test_both_frames_are_started_before_either_answer_is_collected() -> None:
    bus = Bus(2)
    bus.run(10)
    bus.calls.clear()
    bus.run(10)
    # Six transfers start a frame, one collects it.
    begin = next(place for place in range(1, 9) if bus.calls[place][1] == 6 and bus.calls[place - 1][1] == 1)
    ports, lengths = zip(*bus.calls[begin : begin + 4], strict=True)
    assert lengths == (6, 6, 1, 1)
    assert set(ports[:2]) == set(ports[2:]) == {"0", "1"}


def test_cards_that_come_to_all_readers_at_once_are_each_read_and_gone_once() -> None:
    bus = Bus(4)
    for place in range(4):
        bus.enter(place, bytes([0x5A, place, 3, 4]))
    assert sorted(reads(bus.run(300))) == [(str(place), bytes([0x5A, place, 3, 4])) for place in range(4)]
    for chip in bus.chips:
        chip.field.leave()
    assert sorted(event.reader for event in bus.run(300) if isinstance(event, CardGone)) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("level", [0x00, 0xFF])
def test_a_chip_that_vanishes_between_start_and_answer_is_lost_alone(level: int) -> None:
    bus = Bus(2)
    bus.arm(0)
    bus.chips[0].broken = level
    bus.enter(1, OTHER)
    assert reads(bus.run(100)) == [("1", OTHER)]
    assert ("0", "offline") in bus.notes
    assert bus.readers[1].vitals.state == "ready"
    assert bus.readers[1].vitals.resets == 0
    bus.chips[0].broken = None
    bus.chips[0].power_cycle()
    bus.run(2000)
    bus.enter(0, FOUR)
    assert reads(bus.run(50)) == [("0", FOUR)]


def test_the_one_left_has_the_bus_for_itself_until_the_other_is_back() -> None:
    bus = Bus(2)
    bus.chips[0].broken = 0xFF
    bus.run(100)
    bus.calls.clear()
    bus.run(100)
    assert {length for port, length in bus.calls if port == "1"} <= {7, 8}


def test_a_brown_out_between_start_and_answer_is_repaired_in_the_same_look() -> None:
    bus = Bus(2)
    bus.arm(0)
    bus.chips[0].power_cycle()
    bus.enter(0, FOUR)
    assert reads(bus.run(40)) == [("0", FOUR)]
    assert bus.readers[0].vitals.resets == 1
    assert bus.readers[1].vitals.resets == 0
    assert [state for _, state in bus.notes] == ["ready", "ready"]


def test_a_health_check_of_one_while_the_other_s_frame_is_in_the_air_disturbs_neither() -> None:
    bus = Bus(2)
    for _ in range(20):
        bus.arm(0)
        bus.readers[1]._next_health_ns = 0
        bus.readers[0]._next_health_ns = 0
        bus.run(2)
    bus.enter(0, FOUR)
    bus.enter(1, OTHER)
    assert sorted(reads(bus.run(40))) == [("0", FOUR), ("1", OTHER)]
    assert all(reader.vitals.resets == reader.vitals.errors == 0 for reader in bus.readers)


def test_a_frame_that_is_started_and_never_collected_leaves_a_reader_that_works() -> None:
    bus = Bus(2)
    card = bus.enter(0, FOUR)
    bus.arm(0)
    bus.berths[0].look.close()
    bus.readers[0].close()
    bus.chips[0].field.leave(card)
    bus.readers[0].open()
    bus.berths[0].look = None
    bus.enter(0, OTHER)
    assert reads(bus.run(40)) == [("0", OTHER)]


def test_a_look_dropped_half_way_through_a_selection_costs_that_look_only() -> None:
    bus = Bus(2)
    bus.enter(0, FOUR)
    bus.arm(0)
    for _ in range(3):
        next(bus.berths[0].look)
    bus.berths[0].look.close()
    bus.berths[0].look = None
    assert reads(bus.run(20)) == [("0", FOUR)]


def test_a_driver_that_fails_in_the_middle_of_a_look_is_restarted_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = Bus(2)
    with monkeypatch.context() as broken:
        broken.setattr(bus.readers[0]._chip, "_finish", lambda _prepared: 1 / 0)
        bus.enter(0, FOUR)
        bus.enter(1, OTHER)
        assert reads(bus.run(100)) == [("1", OTHER)]
    assert ("0", "offline") in bus.notes
    assert reads(bus.run(3000)) == [("0", FOUR)]


def test_a_reader_that_knows_no_looks_shares_the_bus_with_those_that_do() -> None:
    bus = Bus(3)
    bus.berths[1].sharing = None
    for place in range(3):
        bus.enter(place, bytes([0x5A, place, 3, 4]))
    assert sorted(reads(bus.run(100))) == [(str(place), bytes([0x5A, place, 3, 4])) for place in range(3)]


def test_a_dead_reader_pulls_the_reset_wire_it_shares_three_times_and_the_neighbour_reads_on() -> None:
    bus = Bus(2)
    bus.enter(1, FOUR)
    bus.run(50)
    bus.chips[0].broken = 0x00
    assert reads(bus.run(120_000)) == []
    assert bus.reset.pulls == 3
    assert [event for event in bus.events if isinstance(event, CardGone)] == []
    assert bus.readers[1].vitals.resets == 3
    bus.enter(1, OTHER)
    assert reads(bus.run(50)) == [("1", OTHER)]
    bus.chips[0].broken = None
    bus.chips[0].power_cycle()
    bus.run(40_000)
    bus.enter(0, FOUR)
    assert reads(bus.run(50)) == [("0", FOUR)]


def test_a_hung_chip_is_brought_back_by_the_wire_it_shares_and_a_card_at_rest_there_stays_one_tap() -> None:
    bus = Bus(2)
    bus.enter(1, FOUR)
    bus.run(50)
    bus.chips[0].hung = True
    bus.run(3000)
    assert bus.reset.pulls == 1
    bus.enter(0, OTHER)
    assert reads(bus.run(50)) == [("0", OTHER)]
    assert reads(bus.events) == [("1", FOUR), ("0", OTHER)]
    assert [event for event in bus.events if isinstance(event, CardGone)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="timer slack is Linux's")
def test_the_sleeps_of_a_bus_end_on_time() -> None:
    slacks: list[int] = []
    readings = threading.Event()

    class Slack(Beats):
        def register(self, name: str, deadline_seconds: float) -> Callable[[], None]:
            slacks.append(ctypes.CDLL(None).prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0))
            readings.set()
            return super().register(name, deadline_seconds)

    bus = BusThread("spi0", [], lambda _event: None, lambda *_note: None, Slack())
    bus.start()
    assert readings.wait(10)
    bus.stop()
    assert slacks == [1000]
    assert ctypes.CDLL(None).prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0) != 1000


def test_stopping_in_the_middle_of_a_look_closes_every_reader() -> None:
    bus = Bus(2)
    bus.arm(0)
    bus.thread.start()
    bus.thread.stop()
    assert all(not reader._chip._transport._open for reader in bus.readers)
