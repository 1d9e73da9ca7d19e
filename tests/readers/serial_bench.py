"""A bench for drivers on serial lines: real pyserial on a real pseudo terminal, a device thread at its far end."""

from __future__ import annotations

import time

from gateway.readers.base import Reader, ReaderEvent, Transports, make_reader, parse_options
from gateway.simulator.asked_readers import AskedDevice
from gateway.simulator.chips import SimulatedTransports

PORT = "/dev/serial/by-id/usb-reader"


class AskedBench:
    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, driver: str, device: AskedDevice, **options: object) -> None:
        self.wires = SimulatedTransports()
        self.device = device
        self.wires.attach(PORT, device)
        problems: list[object] = []
        parsed = parse_options(driver, options, lambda *problem: problems.append(problem))
        assert not problems
        wires: Transports = self.wires
        self.reader: Reader = make_reader(driver, "front-in", PORT, parsed, wires)

    def enter(self, uid: bytes) -> None:
        self.device.enter(uid)

    def leave(self) -> None:
        self.device.leave()

    def run(self, milliseconds: float) -> list[ReaderEvent]:
        events: list[ReaderEvent] = []
        end = time.monotonic() + milliseconds / 1000
        while time.monotonic() < end:
            events += self.reader.poll()
            time.sleep(self.reader.pause_seconds)
        return events

    def kill(self) -> None:
        self.device.unplug()

    def revive(self) -> None:
        self.device.plug()

    def close(self) -> None:
        self.reader.close()
        self.wires.close()
