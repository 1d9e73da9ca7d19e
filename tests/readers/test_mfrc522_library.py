"""The real library mfrc522 0.0.7 over the emulated chip; only spidev and RPi.GPIO below it are stand-ins here.

The same driver over the real spidev and the real RPi.GPIO stands in tests/virtual_pi.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Iterator

import pytest

from gateway.access.rules import Reason
from gateway.errors import ConfigError, MissingExtra, ReaderOffline
from gateway.readers.base import CardRead, CardRefused, ReaderEvent
from gateway.readers.mfrc522_library import Mfrc522LibraryReader, Options
from gateway.simulator import iso14443_cards as cards
from gateway.simulator.chips_rc522 import Mfrc522Chip
from gateway.simulator.clocks import VirtualClock
from tests.readers.contract import FOUR, SEVEN, ReaderContract, run_on, taps

_TRANSFER_SECONDS = 41e-6


class LibraryBench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = VirtualClock()
        self.chip = Mfrc522Chip(self.clock)
        self.now_ns = self.clock.now_ns
        self.pins: dict[int, int] = {}
        self.cleaned: list[object] = []
        bench = self

        class SpiDev:
            max_speed_hz = 0

            def open(self, bus: int, device: int) -> None:
                if bench.chip.broken is not None:
                    raise FileNotFoundError(2, "No such file or directory")
                assert (bus, device) == (0, 0)

            def xfer2(self, data: list[int]) -> list[int]:
                bench.clock.sleep(_TRANSFER_SECONDS)
                return list(bench.chip.transfer(bytes(data)))

            def close(self) -> None: ...

        gpio = types.ModuleType("RPi.GPIO")
        mode: list[int] = []
        vars(gpio).update(
            BCM=11,
            BOARD=10,
            OUT=0,
            getmode=lambda: mode[0] if mode else None,
            setmode=mode.append,
            setup=lambda *_: None,
            output=self.pins.__setitem__,
            cleanup=lambda *pins: self.cleaned.append(pins),
        )
        package = types.ModuleType("RPi")
        vars(package).update(GPIO=gpio, __path__=[])
        spidev = types.ModuleType("spidev")
        vars(spidev).update(SpiDev=SpiDev)
        for name, module in (("RPi", package), ("RPi.GPIO", gpio), ("spidev", spidev)):
            monkeypatch.setitem(sys.modules, name, module)
        for name in [name for name in sys.modules if name.split(".")[0] == "mfrc522"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "mfrc522", importlib.import_module("mfrc522"))
        self.reader = Mfrc522LibraryReader("old-lane", "/dev/spidev0.0", Options(), self.clock.now_ns)

    def enter(self, uid: bytes) -> None:
        self.chip.field.enter(cards.classic_1k(uid) if len(uid) == 4 else cards.ntag(uid))

    def leave(self) -> None:
        self.chip.field.leave()

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        return run_on(self.clock, self.reader, milliseconds)

    def kill(self) -> None:
        self.chip.broken = 0xFF

    def revive(self) -> None:
        self.chip.broken = None
        self.chip.power_cycle()
        self.clock.sleep(0.01)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[LibraryBench]:
    yield LibraryBench(monkeypatch)
    logging.getLogger("mfrc522Logger").handlers.clear()


class TestContract(ReaderContract):
    reads_seven_bytes = False

    @pytest.fixture
    def bench(self, monkeypatch: pytest.MonkeyPatch) -> LibraryBench:
        return LibraryBench(monkeypatch)


def test_the_stock_number_has_a_check_byte_that_the_driver_verifies_and_cuts_off(bench: LibraryBench) -> None:
    bench.reader.open()
    bench.enter(FOUR)
    stock = bench.reader._library
    stock.MFRC522_Request(stock.PICC_REQIDL)
    assert bytes(stock.MFRC522_Anticoll()[1]) == FOUR + b"\x22"
    [read] = bench.run(100)
    assert isinstance(read, CardRead)
    assert read.number.value == FOUR


def test_the_stock_library_misses_a_resting_card_at_every_second_look(bench: LibraryBench) -> None:
    bench.reader.open()
    bench.enter(FOUR)
    assert [bench.reader._read_level() is not None for _ in range(4)] == [True, False, True, False]


def test_two_seven_byte_cards_that_the_library_confuses_are_both_refused(bench: LibraryBench) -> None:
    bench.reader.open()
    for uid in (SEVEN, SEVEN[:3] + bytes(4)):
        bench.enter(uid)
        [event] = taps(bench.run(200))
        assert isinstance(event, CardRefused)
        assert event.reason == Reason.CARD_FORMAT
        assert "rc522" in event.detail
        bench.leave()
        bench.run(1000)


def test_the_receive_line_of_the_serial_port_is_never_driven(bench: LibraryBench) -> None:
    bench.reader.open()
    assert bench.pins == {25: 1}
    with pytest.raises(ConfigError, match="reset_gpio"):
        Options(reset_gpio=15)


def test_closing_leaves_the_pins_of_others_alone(bench: LibraryBench) -> None:
    bench.reader.open()
    bench.reader.close()
    assert bench.cleaned == []


def test_reopening_does_not_pile_up_log_handlers(bench: LibraryBench) -> None:
    for _ in range(3):
        bench.reader.open()
    assert logging.getLogger("mfrc522Logger").handlers == []


def test_a_brown_out_is_noticed_although_the_library_never_looks(bench: LibraryBench) -> None:
    bench.reader.open()
    bench.chip.power_cycle()
    bench.run(1500)
    bench.enter(FOUR)
    assert len(taps(bench.run(300))) == 1
    assert bench.reader.vitals.resets == 1


def test_a_port_that_is_no_spidev_is_explained(bench: LibraryBench) -> None:
    reader = Mfrc522LibraryReader("x", "/dev/ttyS0", Options())
    with pytest.raises(ReaderOffline, match="spidev"):
        reader.open()


def test_a_missing_library_names_the_extra(bench: LibraryBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mfrc522", None)
    with pytest.raises(MissingExtra, match=r"tapgate\[pi\]"):
        bench.reader.open()
