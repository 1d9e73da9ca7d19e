"""Several RC522 on one bus thread, on a clock of their own with a Pi's call times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.bench.reader_drivers import WithoutLook
from gateway.edge.buses import BusThread
from gateway.readers.base import CardRead, ReaderEvent
from gateway.readers.rc522.chip import Rc522Chip
from gateway.readers.rc522.driver import Options, Rc522Reader
from gateway.service import Beats
from gateway.simulator import iso14443_cards as cards
from gateway.simulator.chips_rc522 import Mfrc522Chip
from gateway.simulator.clocks import VirtualClock
from gateway.transports.memory import MemorySpi
from gateway.transports.spi import SpiMessage

CALL_SECONDS, TRANSFER_SECONDS = 35e-6, 12e-6
# What a sleep runs over on Linux: the default timer slack.
OVERRUN_SECONDS = 50e-6


class AppointedClock(VirtualClock):
    """A clock on which somebody may come in the middle of whatever is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._due: list[tuple[int, Callable[[], object]]] = []

    def at(self, due_ns: int, action: Callable[[], object]) -> None:
        self._due.append((due_ns, action))

    def sleep(self, seconds: float) -> None:
        end_ns = self._now_ns + int(seconds * 1e9)
        for due in [due for due in self._due if due[0] <= end_ns]:
            self._due.remove(due)
            self._now_ns = max(self._now_ns, due[0])
            due[1]()
        self._now_ns = end_ns


class PiSpi(MemorySpi):
    """Costs what a call and its transfers cost on a Pi, and notes its calls."""

    def __init__(self, name: str, chip: Mfrc522Chip, clock: VirtualClock, calls: list[tuple[str, int]]) -> None:
        super().__init__(name, chip, clock.sleep)
        self._clock, self._calls = clock, calls

    def exchange(self, message: SpiMessage) -> None:
        self._calls.append((self.port, len(message.tx)))
        self._clock.sleep(CALL_SECONDS + TRANSFER_SECONDS * len(message.tx))
        super().exchange(message)


class SharedReset:
    """One reset wire of all chips."""

    def __init__(self, chips: Sequence[Mfrc522Chip]) -> None:
        self.pulls = 0
        self._chips = chips

    def pulse(self) -> None:
        self.pulls += 1
        for chip in self._chips:
            chip.power_cycle()


class Bus:
    """Readers 0, 1, 2.. of one bus; `events` and `notes` in the order they came."""

    def __init__(self, count: int, *, polled: bool = False, options: Options | None = None) -> None:
        self.clock = AppointedClock()
        self.calls: list[tuple[str, int]] = []
        self.events: list[ReaderEvent] = []
        self.notes: list[tuple[str, str]] = []
        self.chips = [Mfrc522Chip(self.clock) for _ in range(count)]
        self.reset = SharedReset(self.chips)
        self.readers = [
            Rc522Reader(
                str(place),
                Rc522Chip(
                    PiSpi(str(place), chip, self.clock, self.calls),
                    4_000_000,
                    self.reset,
                    self.clock.sleep,
                    self.clock.now_ns,
                ),
                options or Options(),
                self.clock.now_ns,
            )
            for place, chip in enumerate(self.chips)
        ]
        self.thread = BusThread(
            "spi0",
            [WithoutLook(reader) for reader in self.readers] if polled else self.readers,
            self.events.append,
            lambda name, state, _detail: self.notes.append((name, state)),
            Beats(),
            lambda: self.clock.now_ns() / 1e9,
        )
        self.run(1)

    @property
    def berths(self) -> list:
        return self.thread._berths

    def turn(self) -> None:
        pause = self.thread._turn()
        if pause > 0:
            self.clock.sleep(pause + OVERRUN_SECONDS)

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        """Let the bus work for a while and return what happened in it."""
        begin, end_ns = len(self.events), self.clock.now_ns() + milliseconds * 1e6
        while self.clock.now_ns() < end_ns:
            self.turn()
        return self.events[begin:]

    def arm(self, place: int) -> None:
        """Go on until this reader has a frame in the air."""
        for _ in range(1000):
            if self.berths[place].look is not None:
                return
            pause = self.thread._turn()
            if self.berths[place].look is None and pause > 0:
                self.clock.sleep(pause)
        raise AssertionError("it never started a look")

    def enter_at(self, place: int, uid: bytes, delay_ms: float) -> int:
        """Let a card come later, in the middle of whatever goes on then; returns that moment."""
        due_ns = self.clock.now_ns() + int(delay_ms * 1e6)
        self.clock.at(due_ns, lambda: self.enter(place, uid))
        return due_ns

    def enter(self, place: int, uid: bytes) -> cards.Card:
        card = cards.classic_1k(uid)
        self.chips[place].field.enter(card)
        return card


def reads(events: list[ReaderEvent]) -> list[tuple[str, bytes]]:
    return [(event.reader, event.number.value) for event in events if isinstance(event, CardRead)]
