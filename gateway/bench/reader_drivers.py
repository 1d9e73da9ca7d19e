"""The drivers that the reader bench measures, each in a separate process.

    python -m gateway.bench.reader_drivers DRIVER

Orders come on standard input, a line each: `poll N`, `idle SECONDS`, `watch` until the next line; what they give is one
JSON object a line.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.cards.encodings import NUMBER
from gateway.readers.base import CardRead, Reader, ReaderEvent
from gateway.readers.rc522 import driver as rc522
from gateway.service import Beats
from gateway.simulator.issued_cards import FILE, FILE_AID

DEVICE = "spidev0.0"
IRQ_GPIO = 24
ANSWER_SECONDS = 30.0
_SECTOR = rc522.Options(credential="classic-sector", sector=1, length=10)
_FILE = rc522.Options(credential="desfire-file", aid=f"{FILE_AID:06X}", file=FILE, length=10)

_Look = Callable[[], "tuple[bytes, int] | None"]  # a number, and CLOCK_MONOTONIC nanoseconds when it was known


def _say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _our_driver(options: rc522.Options) -> tuple[_Look, Callable[[], float]]:
    from gateway.transports.real import RealTransports  # the peers' processes do not need it

    reader = rc522.make("bench", f"/dev/{DEVICE}", options, RealTransports())
    reader.open()

    def look() -> tuple[bytes, int] | None:
        reads = [event for event in reader.poll() if isinstance(event, CardRead)]
        return (_uid_of(reads[-1]), time.monotonic_ns()) if reads else None

    return look, lambda: reader.pause_seconds


def _uid_of(read: CardRead) -> bytes:
    # The number in an issued card is its UID.
    is_number = read.number.projection == NUMBER
    return int(read.number.value).to_bytes(4, "big") if is_number else read.number.value


class _Gate(Beats):
    """Pauses a bus thread at its beat while it is not measured, so that the other stations have the machine."""

    def __init__(self) -> None:
        super().__init__()
        self._closes = 0.0
        self.keep_open(ANSWER_SECONDS)

    def keep_open(self, seconds: float = 0.2) -> None:
        self._closes = time.monotonic() + seconds

    def register(self, name: str, deadline_seconds: float) -> Callable[[], None]:
        del name, deadline_seconds

        def beat() -> None:
            while time.monotonic() > self._closes:
                time.sleep(0.005)

        return beat


class WithoutLook:
    """A reader as the owner of a bus sees one that can only be polled."""

    def __init__(self, reader: Reader) -> None:
        self.name, self.vitals = reader.name, reader.vitals
        self.open, self.poll, self.close, self.signal = reader.open, reader.poll, reader.close, reader.signal
        self._reader = reader

    @property
    def pause_seconds(self) -> float:
        return self._reader.pause_seconds


def _bus(count: int, *, polled: bool = False, group: str = "") -> Callable[[], tuple[_Look, Callable[[], float]]]:
    def make() -> tuple[_Look, Callable[[], float]]:
        from gateway.edge.buses import BusThread
        from gateway.transports.real import RealTransports

        wires = RealTransports()
        ports = [f"spidev0.{select}" for select in range(count)]
        gate = _Gate()
        options = rc522.Options(antenna_group=group)
        readers: list[Reader] = [rc522.make(port, f"/dev/{port}", options, wires) for port in ports]
        ready = threading.Semaphore(0)
        reads: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()

        def handle(event: ReaderEvent) -> None:
            if isinstance(event, CardRead) and event.reader == DEVICE:
                reads.put((event.number.value, time.monotonic_ns()))

        bus = BusThread(
            "spi0",
            [WithoutLook(reader) for reader in readers] if polled else readers,
            handle,
            lambda *_note: ready.release(),
            gate,
        )
        bus.start()
        for _ in readers:
            ready.acquire()
        gate.keep_open()

        def look() -> tuple[bytes, int] | None:
            gate.keep_open()
            try:
                return reads.get(timeout=0.05)
            except queue.Empty:
                return None

        return look, lambda: 0.0

    return make


def _stock_mfrc522() -> tuple[_Look, Callable[[], float]]:
    from mfrc522 import MFRC522  # only the peer's process has it

    chip = MFRC522(pin_mode=11, pin_rst=25)

    def look() -> tuple[bytes, int] | None:
        status, _ = chip.MFRC522_Request(chip.PICC_REQIDL)
        if status != chip.MI_OK:
            return None
        status, number = chip.MFRC522_Anticoll()
        return (bytes(number), time.monotonic_ns()) if status == chip.MI_OK else None

    return look, lambda: 0.0


def _stock_pi_rc522() -> tuple[_Look, Callable[[], float]]:
    import logging

    from pirc522 import RFID  # only the peer's process has it
    from RPi import GPIO

    logging.disable(logging.WARNING)
    # Its interrupt needs /sys/class/gpio, so it polls, as its read_id does.
    chip = RFID(pin_irq=None, pin_rst=25, pin_mode=GPIO.BCM)

    def look() -> tuple[bytes, int] | None:
        number = chip.read_id()
        return (bytes(number), time.monotonic_ns()) if number else None

    return look, lambda: 0.0


_DRIVERS: dict[str, Callable[[], tuple[_Look, Callable[[], float]]]] = {
    "rc522": partial(_our_driver, rc522.Options()),
    "sector-by-time": partial(_our_driver, _SECTOR),
    "file-by-time": partial(_our_driver, _FILE),
    "file-by-irq": partial(_our_driver, replace(_FILE, irq_gpio=IRQ_GPIO)),
    "mfrc522": _stock_mfrc522,
    "pi-rc522": _stock_pi_rc522,
    **{f"bus-{count}": _bus(count) for count in (1, 2, 4)},
    **{f"group-{count}": _bus(count, group="gate") for count in (2, 4)},
    **{f"polled-{count}": _bus(count, polled=True) for count in (2, 4)},
}


def _child(driver: str) -> None:
    look, pause = _DRIVERS[driver]()
    for _ in range(3):
        look()
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(line)
        orders.put("end")

    threading.Thread(target=listen, daemon=True).start()
    _say(ready=True)
    while (words := orders.get().split())[0] != "end":
        begin, begin_cpu = time.monotonic(), time.process_time()
        if words[0] == "poll":
            for _ in range(int(words[1])):
                look()
        elif words[0] == "idle":
            # The pace of a reader that has seen no card for a while sets in by itself.
            _idle(look, pause, 11)
            begin, begin_cpu = time.monotonic(), time.process_time()
            _idle(look, pause, float(words[1]))
        else:
            _say(watching=True)
            _watch(look, pause, lambda: not orders.empty())
            orders.get()
            _say(stopped=True)
            continue
        _say(wall=time.monotonic() - begin, cpu=time.process_time() - begin_cpu)


def _idle(look: _Look, pause: Callable[[], float], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        look()
        if rest := pause():
            time.sleep(rest)


def _watch(look: _Look, pause: Callable[[], float], over: Callable[[], bool]) -> None:
    last: bytes | None = None
    while not over():
        begin_cpu = time.thread_time()
        read = look()
        if read is not None and read[0] != last:
            last, known_ns = read
            _say(uid=last.hex(), ns=known_ns, cpu=time.thread_time() - begin_cpu)
        if seconds := pause():
            time.sleep(seconds)


if __name__ == "__main__":
    _child(sys.argv[1])
