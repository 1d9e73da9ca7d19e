"""Several OSDP readers on one pair of wires, each libosdp's own peripheral device with its own address and key."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import ReaderOffline
from gateway.readers.base import CardRead, Reader, ReaderEvent, make_reader, parse_options
from gateway.simulator.chips import SimulatedTransports

pytest.importorskip("osdp_sys", reason="needs the extra osdp")

from gateway.simulator.osdp_reader import OsdpDevice, OsdpWires

PORT = "/dev/serial/by-id/usb-rs485"
ENTRY, EXIT = bytes(range(16)), bytes(range(16, 32))


class Line:
    """One line: its devices by address, and a reader each."""

    def __init__(self, folder: Path, keys: dict[int, bytes | None], mute: tuple[int, ...] = ()) -> None:
        self.wires = SimulatedTransports()
        self.pair = OsdpWires()
        self.wires.attach(PORT, self.pair)
        self.devices: dict[int, OsdpDevice] = {}
        self.readers: dict[int, Reader] = {}
        for address, key in keys.items():
            if address not in mute:
                self.devices[address] = OsdpDevice(address, key, wires=self.pair)
            path = folder / f"{address}.scbk"
            path.write_text((key or b"").hex())
            options = parse_options(
                "osdp", {"address": address, "scbk_file": str(path) if key else "", "baud": 115200}, _fail
            )
            self.readers[address] = make_reader("osdp", f"reader-{address}", PORT, options, self.wires)

    def run(self, seconds: float, *, addresses: tuple[int, ...] = ()) -> list[ReaderEvent]:
        """Poll as the bus thread does."""
        events: list[ReaderEvent] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for address in addresses or tuple(self.readers):
                events += self.readers[address].poll()
            time.sleep(0.002)
        return events

    def read(self, count: int, *, addresses: tuple[int, ...] = ()) -> list[ReaderEvent]:
        """Poll until so many cards are read, or a time is over in which every machine should have done it."""
        events: list[ReaderEvent] = []
        end = time.monotonic() + 3
        while len(events) < count and time.monotonic() < end:
            events += [event for event in self.run(0.02, addresses=addresses) if isinstance(event, CardRead)]
        return events

    def close(self) -> None:
        for reader in self.readers.values():
            reader.close()
        for device in self.devices.values():
            device.close()
        self.wires.close()


def _fail(key: str, message: str) -> None:
    raise AssertionError(f"{key}: {message}")


@pytest.fixture
def made() -> Iterator[list[Line]]:
    lines: list[Line] = []
    yield lines
    for line in lines:
        line.close()


def test_entry_and_exit_share_a_line_each_with_its_own_key(tmp_path: Path, made: list[Line]) -> None:
    line = Line(tmp_path, {1: ENTRY, 2: EXIT, 5: None})
    made.append(line)
    for reader in line.readers.values():
        reader.open()
    assert [reader.vitals.detail for reader in line.readers.values()][:2] == ["Secure Channel"] * 2
    numbers = {address: bytes([address]) * 4 for address in line.devices}
    for address, device in line.devices.items():
        device.tap(numbers[address])
    events = line.read(len(numbers))
    assert {event.reader: event.number.value for event in events if isinstance(event, CardRead)} == {
        f"reader-{address}": number for address, number in numbers.items()
    }


def _latencies(line: Line, address: int, taps: int) -> list[float]:
    times = []
    for number in itertools.islice(itertools.count(1), taps):
        line.devices[address].tap(number.to_bytes(4, "big"))
        begun = time.monotonic()
        while not any(isinstance(event, CardRead) for event in line.run(0.001, addresses=(address,))):
            # One may wait for the processor; the median is what counts.
            assert time.monotonic() - begun < 10
        times.append(time.monotonic() - begun)
        line.run(0.02, addresses=(address,))
    return times


def test_one_silent_address_does_not_slow_the_others(tmp_path: Path, made: list[Line]) -> None:
    line = Line(tmp_path, {1: ENTRY, 2: EXIT, 3: None}, mute=(2,))
    made.append(line)
    line.readers[1].open()
    begun = time.monotonic()
    with pytest.raises(ReaderOffline, match="address 2"):
        line.readers[2].open()
    assert time.monotonic() - begun < 2
    line.readers[3].open()
    line.readers[2].close()
    for _ in range(3):
        begun = time.monotonic()
        with pytest.raises(ReaderOffline, match="address 2"):
            line.readers[2].open()
        line.readers[2].close()
        # The first opening took 1.65 s; a busy machine may add some to one that does not wait.
        assert time.monotonic() - begun < 0.4, "others wait for this opening"
    # libosdp asks every 50 ms; with 200 ms for each question to the silent reader this would be far more.
    assert statistics.median(_latencies(line, 1, 30)) < 0.12


def test_a_reader_that_comes_late_works_without_a_wait_for_the_others(tmp_path: Path, made: list[Line]) -> None:
    line = Line(tmp_path, {1: ENTRY, 2: EXIT}, mute=(2,))
    made.append(line)
    line.readers[1].open()
    with pytest.raises(ReaderOffline):
        line.readers[2].open()
    line.readers[2].close()
    line.devices[2] = OsdpDevice(2, EXIT, wires=line.pair)
    end = time.monotonic() + 6
    while True:
        line.run(0.2, addresses=(1,))
        begun = time.monotonic()
        try:
            line.readers[2].open()
        except ReaderOffline:
            assert time.monotonic() - begun < 0.4
            assert time.monotonic() < end
            line.readers[2].close()
            continue
        break
    line.devices[2].tap(b"\x01\x02\x03\x04")
    [read] = line.read(1)
    assert isinstance(read, CardRead)
    assert read.reader == "reader-2"


def test_a_reader_that_hangs_is_lost_alone_and_its_neighbour_is_read_meanwhile(
    tmp_path: Path, made: list[Line]
) -> None:
    line = Line(tmp_path, {1: ENTRY, 2: EXIT})
    made.append(line)
    for reader in line.readers.values():
        reader.open()
    line.run(0.2)
    line.devices[2].mute = True
    begun = time.monotonic()
    read: list[ReaderEvent] = []

    def tap_at_the_other() -> None:
        while time.monotonic() - begun < 3:
            line.devices[1].tap(len(read).to_bytes(4, "big"))
            for _ in range(10):
                read.extend(line.run(0.015))

    with pytest.raises(ReaderOffline, match="address 2"):
        tap_at_the_other()
    assert 1.4 < time.monotonic() - begun < 2.2
    assert len(read) > 3
    line.readers[2].close()
    line.devices[2].mute = False
    line.run(1.5, addresses=(1,))
    assert _read_after_reopening(line, 2) == ["reader-2"]


def _read_after_reopening(line: Line, address: int) -> list[str]:
    """Open and read as the bus does: a device that got no processor in time is opened once more."""
    deadline = time.monotonic() + 20
    while True:
        try:
            line.readers[address].open()
            line.devices[address].tap(b"\x01\x02\x03\x04")
            return [event.reader for event in line.read(1)]
        except ReaderOffline:
            assert time.monotonic() < deadline
            line.readers[address].close()
            line.run(0.5, addresses=(1,))


def test_a_card_held_to_a_reader_while_it_was_called_is_dropped(tmp_path: Path, made: list[Line]) -> None:
    line = Line(tmp_path, {1: ENTRY, 2: EXIT})
    made.append(line)
    for reader in line.readers.values():
        reader.open()
    line.readers[2].close()
    line.devices[2].tap(b"\x01\x02\x03\x04")
    line.run(1.5, addresses=(1,))
    line.readers[2].open()
    assert not [event for event in line.run(0.4) if isinstance(event, CardRead)]
    assert line.readers[2].vitals.counters == {"stale": 1}


def test_a_line_that_is_pulled_out_is_lost_for_all_and_comes_back_for_all(tmp_path: Path, made: list[Line]) -> None:
    line = Line(tmp_path, {1: ENTRY, 2: EXIT})
    made.append(line)
    for reader in line.readers.values():
        reader.open()
    line.pair.unplug()
    for reader in line.readers.values():
        with pytest.raises(ReaderOffline):
            line.run(0.1, addresses=(int(reader.name[-1]),))
        reader.close()
    line.pair.plug()
    for reader in line.readers.values():
        reader.open()
    line.devices[1].tap(b"\x01\x02\x03\x04")
    [read] = line.read(1)
    assert isinstance(read, CardRead)


def test_cards_held_to_any_reader_while_the_line_was_closed_are_dropped(tmp_path: Path, made: list[Line]) -> None:
    line = Line(tmp_path, {1: ENTRY, 2: EXIT})
    made.append(line)
    for reader in line.readers.values():
        reader.open()
    line.run(0.1)
    for reader in line.readers.values():
        reader.close()
    for device in line.devices.values():
        device.tap(b"\x01\x02\x03\x04")
    for reader in line.readers.values():
        reader.open()
    assert not [event for event in line.run(0.5) if isinstance(event, CardRead)]
