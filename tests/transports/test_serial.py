"""Real pyserial over real pseudo terminals: what arrives, what is exclusive, what a pulled plug looks like."""

from __future__ import annotations

import os
import pty
import termios
import time
import tty
from collections.abc import Iterator

import pytest
import serial

from gateway.errors import ReaderOffline
from gateway.readers.serial_base import framing_of
from gateway.readers.serial_line import Options as SerialLineOptions
from gateway.transports.memory import MemorySerial
from gateway.transports.port_watch import PortWatch
from gateway.transports.serial import FRAMINGS, SerialPort


class Line:
    def __init__(self) -> None:
        self.far, near = pty.openpty()
        tty.setraw(near)
        self.path = os.ttyname(near)
        self.near = near

    def unplug(self) -> None:
        for end in (self.far, self.near):
            if end >= 0:
                os.close(end)
        self.far = self.near = -1


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.unplug()


@pytest.fixture
def port(line: Line) -> Iterator[SerialPort]:
    made = SerialPort(line.path, 9600)
    made.open()
    yield made
    made.close()


def test_a_read_gives_what_is_there_without_waiting_for_more(line: Line, port: SerialPort) -> None:
    os.write(line.far, b"DEAD")
    assert port.read(1.0) == b"DEAD"


def test_a_silent_line_comes_back_empty_after_the_time_given(port: SerialPort) -> None:
    begin = time.monotonic()
    assert port.read(0.05) == b""
    assert 0.04 < time.monotonic() - begin < 1.0


def test_bytes_from_before_the_opening_are_forgotten(line: Line) -> None:
    os.write(line.far, b"an old tap\r")
    port = SerialPort(line.path, 9600)
    port.open()
    assert port.read(0.02) == b""
    port.close()


def test_what_is_written_arrives_at_the_far_end(line: Line, port: SerialPort) -> None:
    port.write(b"050010\r")
    assert os.read(line.far, 100) == b"050010\r"


def test_a_port_in_use_cannot_be_opened_twice(line: Line, port: SerialPort) -> None:
    with pytest.raises(ReaderOffline, match="cannot be opened"):
        SerialPort(line.path, 9600).open()


def test_a_pulled_plug_is_noticed_by_read_and_by_write(line: Line, port: SerialPort) -> None:
    line.unplug()
    with pytest.raises(ReaderOffline, match="gone"):
        port.read(1.0)
    with pytest.raises(ReaderOffline, match="gone"):
        port.write(b"x")


def test_a_line_that_takes_nothing_more_is_given_up_in_time_for_its_poll(port: SerialPort) -> None:
    def fill() -> None:
        nonlocal begin
        for _ in range(10_000):
            begin = time.monotonic()
            port.write(bytes(64))

    begin = time.monotonic()
    with pytest.raises(ReaderOffline, match="gone"):
        fill()
    assert time.monotonic() - begin < 0.1


def test_a_missing_port_names_itself(tmp_path) -> None:
    with pytest.raises(ReaderOffline, match="No such file"):
        SerialPort(str(tmp_path / "ttyUSB9"), 9600).open()


def test_closing_twice_and_using_a_closed_port(port: SerialPort) -> None:
    port.close()
    port.close()
    with pytest.raises(ReaderOffline):
        port.read(0)
    with pytest.raises(ReaderOffline):
        port.write(b"x")


def test_the_library_below_is_the_real_one(port: SerialPort) -> None:
    assert isinstance(port._serial, serial.Serial)
    assert port._serial.baudrate == 9600


def test_joined_memory_ends_carry_bytes_both_ways_and_can_be_unplugged() -> None:
    near, far = MemorySerial.joined("memory")
    near.open()
    far.write(b"tap\r")
    assert near.read(1.0) == b"tap\r"
    near.write(b"beep")
    assert far.read(1.0) == b"beep"
    near.unplug()
    with pytest.raises(ReaderOffline):
        near.read(1.0)
    with pytest.raises(ReaderOffline):
        near.open()
    near.plug()
    near.open()
    assert near.read(0) == b""


def test_damage_reads_as_a_byte_that_no_number_holds() -> None:
    far, near = pty.openpty()
    tty.setraw(near)
    port = SerialPort(os.ttyname(near), 9600)
    port.open()
    flags = termios.tcgetattr(near)[0]
    assert flags & termios.INPCK
    assert not flags & (termios.IGNPAR | termios.PARMRK | termios.IGNBRK | termios.BRKINT)
    port.close()
    os.close(far)
    os.close(near)


def test_bytes_that_ran_over_the_edge_of_a_buffer_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    overruns = iter([(0, 0), (0, 0), (1, 0), (1, 2), (1, 2)])
    monkeypatch.setattr(PortWatch, "_count_overruns", lambda _watch: next(overruns))
    far, near = pty.openpty()
    tty.setraw(near)
    port = SerialPort(os.ttyname(near), 9600)
    port.open()
    losses = []
    for _ in range(4):
        os.write(far, b"DEADBEEF\r")
        assert port.read(1)
        losses.append(port.losses)
    assert losses == [0, 1, 2, 2]
    assert port.intruder == ""
    port.close()
    os.close(far)
    os.close(near)


def test_each_framing_is_what_the_settings_say() -> None:
    made = []
    for parity, data_bits, stop_bits in (("none", 8, 1), ("even", 7, 1), ("odd", 8, 2)):
        options = SerialLineOptions(parity=parity, data_bits=data_bits, stop_bits=stop_bits)
        made.append(framing_of(options))
    assert made == ["8N1", "7E1", "8O2"]
    assert set(made) <= set(FRAMINGS)
