"""Two RC522 on one bus share a thread; what the neighbour costs, on a clock of their own with a Pi's call times."""

from __future__ import annotations

import random
import statistics

from gateway.readers.base import CardRead
from gateway.readers.rc522.chip import Rc522Chip
from gateway.readers.rc522.driver import Options, Rc522Reader
from gateway.simulator import iso14443_cards as cards
from gateway.simulator.chips_rc522 import Mfrc522Chip
from gateway.simulator.clocks import VirtualClock
from gateway.transports.memory import MemorySpi
from gateway.transports.spi import SpiMessage

_CALL_SECONDS, _TRANSFER_SECONDS = 35e-6, 12e-6


class PiSpi(MemorySpi):
    """Costs what a call and its transfers cost on a Pi."""

    def __init__(self, chip: Mfrc522Chip, clock: VirtualClock) -> None:
        super().__init__("/dev/spidev0.x", chip, clock.sleep)
        self._clock = clock

    def exchange(self, message: SpiMessage) -> None:
        self._clock.sleep(_CALL_SECONDS + _TRANSFER_SECONDS * len(message.tx))
        super().exchange(message)


def median_ms(readers: int, *, neighbour_rests: bool, taps: int = 150) -> float:
    clock, chance = VirtualClock(), random.Random(1)
    chips = [Mfrc522Chip(clock) for _ in range(readers)]
    bus = [
        Rc522Reader(
            str(place),
            Rc522Chip(PiSpi(chip, clock), 4_000_000, None, clock.sleep, clock.now_ns),
            Options(),
            clock.now_ns,
        )
        for place, chip in enumerate(chips)
    ]
    for reader in bus:
        reader.open()
    if neighbour_rests:
        chips[1].field.enter(cards.classic_1k(b"\x01\x02\x03\x04"))
    times: list[float] = []
    for number in range(taps):
        card = cards.classic_1k(b"\x5a\x00" + number.to_bytes(2, "big"))
        # Cards come at any moment, polls only between; the power-up time moves the moment into the poll.
        card.power_up_us = chance.randrange(4000)
        due_ns = chips[0].field.enter(card) + card.power_up_us * 1000
        end_ns = due_ns + chance.randrange(80, 120) * 1_000_000
        while clock.now_ns() < end_ns:
            for reader in bus:
                reads = [event for event in reader.poll() if isinstance(event, CardRead)]
                times += [(event.seen_ns - due_ns) / 1e6 for event in reads if event.reader == "0"]
            clock.sleep(min(reader.pause_seconds for reader in bus))
        chips[0].field.leave()
    assert len(times) == taps
    return statistics.median(times)


def test_a_neighbour_costs_less_than_half_as_much_again() -> None:
    alone = median_ms(1, neighbour_rests=False)
    assert alone < 4
    assert median_ms(2, neighbour_rests=False) < 1.5 * alone
    assert median_ms(2, neighbour_rests=True) < 1.5 * alone
