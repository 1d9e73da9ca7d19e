"""A second program on the port: it takes bytes of numbers, and no number of another person may come of that."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.readers.base import CardRead
from gateway.readers.serial_line import Options, make
from gateway.simulator.chips import SimulatedTransports
from gateway.transports.port_watch import PortWatch

PORT = "/dev/serial/by-id/usb-reader"
# Takes one byte now and then, as a modem manager that probes or a forgotten terminal does.
THIEF = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
print("ready", flush=True)
while True:
    os.read(fd, 1)
    time.sleep(float(sys.argv[2]))
"""


@contextlib.contextmanager
def thief(path: str, pause_seconds: float) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", THIEF, path, str(pause_seconds)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


class _BlindWatch(PortWatch):
    """As before: nobody looks who else is there."""

    def before_read(self) -> int:
        return 0

    def after_read(self, waited: int, got: int) -> None:
        """Sees nothing."""

    def note_taken(self) -> None:
        """Sees nothing."""

    @property
    def intruder(self) -> str:
        return ""


def tap_and_read(lines: list[str], options: Options, *, before: bool) -> tuple[list[str], list[str], object]:
    """Let a reader print lines byte by byte beside a thief; returns the numbers read, those that were true, vitals."""
    wires = SimulatedTransports()
    line = wires.line(PORT)
    reader = make("desk", PORT, options, wires)
    read: list[str] = []
    done = threading.Event()

    def type_lines() -> None:
        for text in lines:
            for byte in (text + "\r").encode():
                line.send(bytes([byte]))
                time.sleep(0.0005)
            time.sleep(0.09)
        done.set()

    with contextlib.ExitStack() as stack:
        if before:
            stack.enter_context(thief(line.path, 0.002))
        reader.open()
        if not before:
            stack.enter_context(thief(line.path, 0.002))
        typist = threading.Thread(target=type_lines)
        typist.start()
        while not done.is_set():
            read += [event.number.value.hex().upper() for event in reader.poll() if isinstance(event, CardRead)]
        typist.join()
    reader.close()
    wires.close()
    return read, lines, reader.vitals


_UIDS = [f"04A1B2{number:08X}" for number in range(20)]


@pytest.mark.parametrize("before", [True, False])
def test_a_second_program_never_makes_another_persons_number(before: bool) -> None:
    read, true, vitals = tap_and_read(_UIDS, Options(), before=before)
    assert not set(read) - set(true)
    assert vitals.state == "degraded"
    assert "Another program" in vitals.detail
    assert vitals.counters["port shared"] >= 1


def test_the_thief_makes_wrong_numbers_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.transports.serial.PortWatch", _BlindWatch)
    numbers = [f"{number * 7919 + 100_000_000}" for number in range(20)]
    true = {int(text).to_bytes(4, "big").hex().upper() for text in numbers}
    wrong: set[str] = set()
    for _ in range(10):
        # How much it takes is chance.
        read, _, _ = tap_and_read(numbers, Options(encoding="dec-msb"), before=False)
        wrong |= set(read) - true
        if wrong:
            break
    assert wrong


def test_a_reader_works_again_when_the_other_program_has_left() -> None:
    wires = SimulatedTransports()
    line = wires.line(PORT)
    reader = make("desk", PORT, Options(), wires)
    reader.open()
    with thief(line.path, 0.001):
        for _ in range(20):
            line.send(b"DEADBEEF\r")
            assert not any(isinstance(event, CardRead) for event in reader.poll())
        assert reader.vitals.state == "degraded"
        assert "process" in reader.vitals.detail
    end = time.monotonic() + 5
    while reader.vitals.state != "ready" and time.monotonic() < end:
        reader.poll()
    # What lies between is spoilt up to a silence.
    while reader.poll():
        pass
    for _ in range(3):
        reader.poll()
    line.send(b"DEADBEEF\r")
    events = [event for _ in range(3) for event in reader.poll()]
    assert [event.number.value.hex() for event in events if isinstance(event, CardRead)] == ["deadbeef"]
    reader.close()
    wires.close()


def test_the_port_tells_who_opens_and_leaves_it_and_nothing_of_its_own_reads() -> None:
    wires = SimulatedTransports()
    line = wires.line(PORT)
    port = wires.serial(PORT, 9600)
    port.open()
    for _ in range(50):
        line.send(b"DEADBEEF\r")
        assert port.read(1)
    assert (port.losses, port.intruder) == (0, "")
    other = os.open(line.path, os.O_RDONLY | os.O_NOCTTY)
    port.read(0)
    assert "Another program" in port.intruder
    os.close(other)
    port.read(0)
    assert port.intruder == ""
    assert port.losses == 1
    port.close()
    wires.close()


def test_bytes_taken_by_a_program_that_was_there_before_are_noticed() -> None:
    wires = SimulatedTransports()
    line = wires.line(PORT)
    other = os.open(line.path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    port = wires.serial(PORT, 9600)
    port.open()
    assert port.intruder == ""
    line.send(b"DEADBEEF\r")
    assert select.select([other], [], [], 1)[0]
    assert os.read(other, 3) == b"DEA"
    assert port.read(0) == b"DBEEF\r"
    assert port.losses == 1
    assert "Another program" in port.intruder
    os.close(other)
    port.close()
    wires.close()
