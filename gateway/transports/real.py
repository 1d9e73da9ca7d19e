"""The wires of a real machine, as a reader's maker asks for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.transports.gpio_edges import GpioEdgeLines
from gateway.transports.input_events import InputDevice
from gateway.transports.irq_line import GpioIrqLine
from gateway.transports.reset_line import GpioResetLine
from gateway.transports.serial import SerialPort
from gateway.transports.spi import SpiDevice


class RealTransports:
    """Opens kernel devices; nothing is opened before the reader opens it."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def spi(self, port: str, speed_hz: int) -> SpiDevice:
        return SpiDevice(port, speed_hz)

    def serial(self, port: str, baud: int, framing: str = "8N1") -> SerialPort:
        return SerialPort(port, baud, framing)

    def input_device(self, port: str) -> InputDevice:
        return InputDevice(port)

    def library(self, make: Callable[[RealTransports], Any]) -> Any:
        return make(self)

    def reset_line(self, gpio: int) -> GpioResetLine:
        return GpioResetLine(gpio)

    def edge_lines(self, port: str, gpios: Sequence[int]) -> GpioEdgeLines:
        return GpioEdgeLines(port, gpios)

    def irq_line(self, gpio: int) -> GpioIrqLine:
        return GpioIrqLine(gpio)
