"""Simulated transports of one gateway, passed to the drivers in place of the real ones.

wires = SimulatedTransports()
wires.field("/dev/spidev0.0").enter(card)      # the RC522 driver sees a card
wires.line("/dev/ttyS0").tap(uid)              # the line driver reads a line from a real pseudo terminal
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.protocols.wedge import EV_KEY, keys_of
from gateway.simulator.chips_rc522 import Mfrc522Chip
from gateway.simulator.clocks import Clock, RealClock
from gateway.simulator.iso14443_cards import Field
from gateway.simulator.line_readers import LineReader, PtyEnd
from gateway.simulator.wiegand_reader import WiegandWires
from gateway.transports.memory import MemoryKeyboard, MemorySpi
from gateway.transports.serial import SerialPort


class _PluggedPort(SerialPort):
    """A serial port whose device path may change while it is unplugged, as behind /dev/serial/by-id."""

    def __init__(self, name: str, line: PtyEnd, baud: int, framing: str = "8N1") -> None:
        super().__init__(name, baud, framing)
        self._line = line

    def open(self) -> None:
        self.port = self._line.path
        super().open()


class SimulatedResetLine:
    """The reset pins of all chips wired to one GPIO."""

    def __init__(self, wires: SimulatedTransports, gpio: int) -> None:
        self._wires = wires
        self._gpio = gpio

    def pulse(self) -> None:
        self._wires.pulse_reset(self._gpio)


class SimulatedIrqLine:
    """The interrupt pins of the chips wired to one GPIO; a wait goes from one change of them to the next."""

    def __init__(self, chips: Sequence[Mfrc522Chip], clock: Clock) -> None:
        self._chips, self._clock = chips, clock
        self._fell = False

    def open(self) -> None:
        for chip in self._chips:
            chip.on_irq = self._fall

    def _fall(self) -> None:
        self._fell = True

    def drain(self) -> None:
        self._fell = False

    def wait(self, seconds: float) -> bool:
        end_ns = self._clock.now_ns() + int(seconds * 1e9)
        while not self._fell and (now_ns := self._clock.now_ns()) < end_ns:
            due_ns = min((due for chip in self._chips if (due := chip.irq_due_ns) is not None), default=end_ns)
            self._clock.sleep(max(0, min(due_ns, end_ns) - now_ns) / 1e9 + 1e-6)
            for chip in self._chips:
                chip.settle()
        fell, self._fell = self._fell, False
        return fell

    def close(self) -> None:
        for chip in self._chips:
            chip.on_irq = None


class SimulatedTransports:
    """Keeps readers.base.Transports; makes one chip a port and one line reader a port, on first use."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or RealClock()
        self._chips: dict[str, Mfrc522Chip] = {}
        self._ends: dict[str, PtyEnd] = {}
        self._keyboards: dict[str, MemoryKeyboard] = {}
        self._wiegand: dict[tuple[str, int, int], WiegandWires] = {}
        self._reset_pins: list[tuple[int, str]] = []
        self._irq_pins: list[tuple[int, str]] = []

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def spi(self, port: str, speed_hz: int) -> MemorySpi:
        wire = MemorySpi(port, self.chip(port), self._clock.sleep)
        wire.set_speed(speed_hz)
        return wire

    def serial(self, port: str, baud: int, framing: str = "8N1") -> SerialPort:
        return _PluggedPort(port, self._ends.get(port) or self.line(port), baud, framing)

    def attach(self, port: str, device: PtyEnd) -> None:
        """Put a device of polled_readers at a port, in place of a line reader."""
        self._ends[port] = device

    def edge_lines(self, port: str, gpios: Sequence[int]) -> WiegandWires:
        return self.wiegand(port, *gpios)

    def wiegand(self, port: str, d0: int, d1: int) -> WiegandWires:
        """Return the wiegand reader at two pins."""
        return self._wiegand.setdefault((port, d0, d1), WiegandWires(port, d0, d1))

    def input_device(self, port: str) -> MemoryKeyboard:
        return self.keyboard(port)

    def keyboard(self, port: str) -> MemoryKeyboard:
        """Return the keyboard-wedge reader at a port."""
        return self._keyboards.setdefault(port, MemoryKeyboard(port))

    def type_line(self, port: str, text: str) -> None:
        """Let the keyboard-wedge reader at a port type a line."""
        for code, value in keys_of(text):
            self.keyboard(port).press(EV_KEY, code, value)

    def library(self, make: Callable[[SimulatedTransports], Any]) -> Any:
        return make(self)

    def reset_line(self, gpio: int) -> SimulatedResetLine:
        return SimulatedResetLine(self, gpio)

    def irq_line(self, gpio: int) -> SimulatedIrqLine:
        return SimulatedIrqLine([self.chip(port) for pin, port in self._irq_pins if pin == gpio], self._clock)

    def wire_irq(self, port: str, gpio: int) -> None:
        """Join the interrupt pin of the chip at a port to a GPIO; do so before the reader is made."""
        self._irq_pins.append((gpio, port))

    def wire_reset(self, port: str, gpio: int) -> None:
        """Join the reset pin of the chip at a port to a GPIO."""
        self._reset_pins.append((gpio, port))

    def pulse_reset(self, gpio: int) -> None:
        for pin, port in self._reset_pins:
            if pin == gpio:
                self.chip(port).power_cycle()

    def chip(self, port: str) -> Mfrc522Chip:
        """Return the RC522 at a port."""
        return self._chips.setdefault(port, Mfrc522Chip(self._clock))

    def field(self, port: str) -> Field:
        """Return the radio field of the RC522 at a port."""
        return self.chip(port).field

    def line(self, port: str) -> LineReader:
        """Return the line reader at a port; set its encoding to what the configuration expects."""
        if port not in self._ends:
            self._ends[port] = LineReader()
        end = self._ends[port]
        if not isinstance(end, LineReader):
            raise KeyError(f"at {port} is another kind of reader")
        return end

    def close(self) -> None:
        for end in self._ends.values():
            end.close()
