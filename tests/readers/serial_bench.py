"""Benches for drivers on serial lines: real pyserial on a real pseudo terminal, a device at its far end."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time

from gateway.readers.base import Reader, ReaderEvent, make_reader, parse_options
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.line_readers import PtyEnd
from gateway.simulator.polled_readers import PolledDevice

PORT = "/dev/serial/by-id/usb-reader"
# What the protocols begin with, so that noise also looks like frames that never end.
_HEADS = (b"\x00\x00\xff\x30\xd0", b"\xaa\xbb\x30\x00", b"\x02", b"0001802004", b"\x53\x80\x10\x00", b"\r", b"")


class Babbler:
    """Noise at the far end of a pseudo terminal that does not stop."""

    def __init__(self, end: PtyEnd) -> None:
        self._end = end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        draw = random.Random(7)
        while not self._stop.is_set():
            far = self._end._far
            with contextlib.suppress(OSError):
                if far >= 0:
                    os.set_blocking(far, False)
                    os.write(far, draw.choice(_HEADS) + draw.randbytes(64))
                    continue
            # The line is full, or pulled out.
            time.sleep(0.0005)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)


class PortBench:
    """A reader at a pseudo terminal, and what may happen to it."""

    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, driver: str, device: PtyEnd, port: str = PORT, **options: object) -> None:
        self.wires = SimulatedTransports()
        self.device = device
        self.wires.attach(port, device)
        problems: list[object] = []
        parsed = parse_options(driver, options, lambda *problem: problems.append(problem))
        assert not problems
        self.reader: Reader = make_reader(driver, "front-in", port, parsed, self.wires)
        self._babbler: Babbler | None = None

    def enter(self, uid: bytes) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """Most readers on lines do not notice."""

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

    def stick(self) -> None:
        if hasattr(self.device, "mute"):
            self.device.mute = True

    def babble(self) -> None:
        self.stick()
        self._babbler = Babbler(self.device)

    def calm(self) -> None:
        """End whatever holds the reader up."""
        if self._babbler is not None:
            self._babbler.stop()
            self._babbler = None
        if self.device._far < 0:
            self.device.plug()
        os.set_blocking(self.device._far, True)
        if hasattr(self.device, "mute"):
            self.device.mute = False

    def close(self) -> None:
        if self._babbler is not None:
            self._babbler.stop()
        self.reader.close()
        self.wires.close()


class AskedBench(PortBench):
    device: PolledDevice

    def enter(self, uid: bytes) -> None:
        self.device.enter(uid)

    def leave(self) -> None:
        self.device.leave()
