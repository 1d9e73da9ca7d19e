"""The interrupt pin of an RC522: what it saves, and that a pin that is missing or dies never makes a reader mute."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from gateway.cards.encodings import decode
from gateway.errors import ConfigError, ReaderOffline
from gateway.protocols.mfrc522 import Register, gather
from gateway.readers.base import CardGone, CardRead, CardRefused, ReaderEvent
from gateway.readers.rc522 import driver as rc522
from gateway.readers.rc522.chip import Rc522Chip
from gateway.readers.rc522.driver import Options, Rc522Reader
from gateway.simulator.card_memory import ClassicCard
from gateway.simulator.chips import SimulatedIrqLine, SimulatedTransports
from gateway.simulator.chips_rc522 import Mfrc522Chip
from gateway.simulator.clocks import VirtualClock
from gateway.simulator.issued_cards import FILE, WorkingDesfire, file_card
from gateway.transports.memory import MemorySpi
from gateway.transports.trace import Recorder, Replay, ReplayEnded, load
from tests.readers.contract import FOUR, SEVEN, run_on

KEY = bytes.fromhex("4B0B20107CCB")
NUMBER = decode("47711", "number")


class _NoLine:
    """An interrupt line that another program has."""

    def open(self) -> None:
        raise ReaderOffline("GPIO 24 cannot be monitored (Device or resource busy).")

    def drain(self) -> None:
        raise AssertionError("it was never opened")

    def wait(self, seconds: float) -> bool:
        raise AssertionError("it was never opened")

    def close(self) -> None:
        """Nothing is open."""


class IrqBench:
    """A reader with its interrupt pin on a wire, or `wired` False for a wire that leads nowhere."""

    def __init__(self, options: Options, *, wired: bool = True, configured: bool = True, busy: bool = False) -> None:
        self.clock = VirtualClock()
        self.chip = Mfrc522Chip(self.clock)
        self.wire = MemorySpi("/dev/spidev0.0", self.chip, self.clock.sleep)
        self.line = SimulatedIrqLine([self.chip] if wired else [], self.clock)
        irq = (_NoLine() if busy else self.line) if configured else None
        driver = Rc522Chip(self.wire, options.speed_hz, None, self.clock.sleep, self.clock.now_ns, irq)
        self.driver = driver
        self.reader = Rc522Reader("lane-1", driver, options, self.clock.now_ns)
        self.reader.open()

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        return run_on(self.clock, self.reader, milliseconds)

    def read(self, card: object, milliseconds: float = 100) -> tuple[ReaderEvent, float, int, int]:
        """Hold a card to it; returns the event, milliseconds until it, transfers and calls of that one poll."""
        self.chip.field.enter(card)
        entered_ns = self.clock.now_ns()
        while self.clock.now_ns() < entered_ns + milliseconds * 1e6:
            transfers, calls = self.wire.transfers, self.wire.messages
            events = self.reader.poll()
            if events:
                spent = (self.wire.transfers - transfers, self.wire.messages - calls)
                return events[0], (events[0].seen_ns - entered_ns) / 1e6, *spent
            self.clock.sleep(self.reader.pause_seconds)
        raise AssertionError("nothing was read")


@pytest.fixture
def sector(tmp_path: Path) -> Options:
    path = tmp_path / "sector.key"
    path.write_text(KEY.hex())
    return Options(credential="classic-sector", sector=4, block=1, length=8, key_file=str(path))


@pytest.fixture
def file() -> Options:
    return Options(credential="desfire-file", aid="3042F5", file=2, length=8)


def issued(uid: bytes = FOUR) -> ClassicCard:
    card = ClassicCard(uid)
    card.write(4, 1, b"00047711")
    card.set_key(0x60, 4, KEY)
    return card


def desfire(thinks: int = 0, command_us: int = 0, uid: bytes = SEVEN) -> WorkingDesfire:
    card = file_card(uid)
    card.files[FILE] = b"00047711"
    card.thinks, card.command_us = thinks, command_us
    return card


def is_number(event: ReaderEvent) -> bool:
    return isinstance(event, CardRead) and event.number == NUMBER


def test_what_has_a_known_length_is_read_by_time_and_costs_nothing_more(sector: Options) -> None:
    bench, by_time = IrqBench(sector), IrqBench(sector, configured=False)
    for made in (bench, by_time):
        made.run(10)
    event, ms, *spent = bench.read(issued())
    event_by_time, ms_by_time, *spent_by_time = by_time.read(issued())
    assert is_number(event)
    assert is_number(event_by_time)
    assert spent == spent_by_time
    assert abs(ms - ms_by_time) < 1


def test_a_desfire_that_works_for_a_while_is_not_asked_again_and_again(file: Options) -> None:
    event, ms, _, calls = IrqBench(file).read(desfire(command_us=8000), 500)
    by_time, ms_by_time, _, calls_by_time = IrqBench(file, configured=False).read(desfire(command_us=8000), 500)
    assert is_number(event)
    assert is_number(by_time)
    assert ms < ms_by_time
    assert calls < calls_by_time * 0.7


def test_a_desfire_that_asks_for_more_time_is_given_it(file: Options) -> None:
    event, *_ = IrqBench(file).read(desfire(thinks=2), 500)
    assert is_number(event)


def test_an_empty_look_costs_what_it_costs_without_the_pin_and_moves_it_never(sector: Options) -> None:
    bench = IrqBench(sector)
    bench.reader.poll()
    transfers, calls = bench.wire.transfers, bench.wire.messages
    bench.line.drain()
    bench.reader.poll()
    assert (bench.wire.transfers - transfers, bench.wire.messages - calls) == (7, 1)
    assert not bench.line.wait(0.01)
    assert bench.chip.transfer(gather((Register.COM_IEN,)))[1] == 0x80


@pytest.mark.parametrize(("busy", "said"), [(False, "no edge arrives"), (True, "cannot be monitored")])
def test_a_pin_that_is_not_there_is_a_warning_and_the_reader_reads_as_without(
    file: Options, busy: bool, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = IrqBench(file, wired=False, busy=busy)
    assert bench.reader.vitals.state == "ready"
    assert said in bench.reader.vitals.detail
    assert said in caplog.text
    event, ms, *_ = bench.read(desfire())
    assert is_number(event)
    assert ms < 20


def test_a_pin_that_moves_by_itself_is_not_trusted(file: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedIrqLine, "wait", lambda _self, _seconds: True)
    bench = IrqBench(file)
    assert "changes while the chip is idle" in bench.reader.vitals.detail
    assert is_number(bench.read(desfire())[0])


def test_a_wire_that_breaks_later_costs_a_few_glances_and_is_said(file: Options) -> None:
    bench = IrqBench(file)
    bench.chip.on_irq = None
    event, ms, *_ = bench.read(desfire(), 300)
    assert is_number(event)
    assert ms < 90
    bench.chip.field.leave()
    assert [type(event) for event in bench.run(1200)] == [CardGone]
    assert "edges in a row did not come" in bench.reader.vitals.detail
    assert bench.reader.vitals.state == "ready"
    assert bench.reader.vitals.counters["interrupt pin lost"] == 1
    _, ms, *_ = bench.read(desfire(uid=b"\x04\x01\x02\x03\x04\x05\x06"))
    assert ms < 20
    bench.reader.close()
    bench.reader.open()
    assert "irq_gpio" not in bench.reader.vitals.detail


def test_a_card_taken_away_in_the_middle_ends_with_the_timer_s_edge(file: Options) -> None:
    bench = IrqBench(file)
    card = desfire()
    answer = card._perform
    card._perform = lambda command: bench.chip.field.leave() or answer(command)
    event, ms, *_ = bench.read(card, 300)
    assert isinstance(event, CardRefused)
    assert ms < 100
    bench.run(200)
    assert is_number(bench.read(desfire(uid=b"\x04\x01\x02\x03\x04\x05\x06"))[0])
    assert bench.reader.vitals.resets == 0
    assert "irq_gpio" not in bench.reader.vitals.detail


def test_a_clone_that_does_not_gather_waits_for_its_pin_too(file: Options) -> None:
    bench = IrqBench(file)
    bench.reader.close()
    bench.chip.gathers = False
    bench.reader.open()
    assert bench.driver._irq_works
    assert is_number(bench.read(desfire())[0])


def test_a_recording_with_the_pin_replays_to_the_same_events(tmp_path: Path) -> None:
    options = {"credential": "desfire-file", "aid": "3042F5", "file": 2, "length": 8, "irq_gpio": 24}
    port = "/dev/spidev0.0"
    for _ in range(10):
        wires, out = SimulatedTransports(), io.StringIO()
        wires.wire_irq(port, 24)
        reader = rc522.make("lane-1", port, Options(**options), Recorder(wires, out, "rc522", options))
        reader.open()
        wires.field(port).enter(desfire())
        events = [event for _ in range(20) for event in reader.poll()]
        if is_number(events[0]):
            break
        # On a busy machine a whole file takes longer than a tap may; the next one is quicker.
        assert "too slow" in events[0].detail
    assert is_number(events[0])
    path = tmp_path / "trace.jsonl"
    path.write_text(out.getvalue())
    assert ["i", True] in [json.loads(line) for line in out.getvalue().splitlines()]
    replay = Replay(load(path))
    again = rc522.make("lane-1", port, Options(**replay.options), replay)
    again.open()
    replayed: list[ReaderEvent] = []
    with pytest.raises(ReplayEnded):
        poll_for_ever(again, replayed)
    assert replayed == events


def poll_for_ever(reader: Rc522Reader, events: list[ReaderEvent]) -> None:
    while True:
        events += reader.poll()


def test_a_pin_beyond_the_header_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Options(irq_gpio=40, reset_gpio=-1)
    assert caught.value.problems == [
        "reset_gpio: must be a BCM number from 0 to 27",
        "irq_gpio: must be a BCM number from 0 to 27",
    ]
