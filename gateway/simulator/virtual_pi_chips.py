"""The chips of a virtual Pi, in a separate process.

    python -m gateway.simulator.virtual_pi_chips FOLDER DEVICE...

Each device has a SOCK_SEQPACKET socket FOLDER/DEVICE.sock that virtual_pi.c speaks, and all share FOLDER/control.sock:
one JSON object a line in, one out. Errors of a command come back as {"error": text}. An interrupt pin that is wired has
a socket FOLDER/gpioN.sock; each falling edge is one struct gpio_v2_line_event.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.simulator import iso14443_cards as cards
from gateway.simulator import issued_cards
from gateway.simulator.chips_rc522 import Mfrc522Chip

_HEAD = struct.Struct("=II")
_ENTRY = struct.Struct("=II")
_STATUS = struct.Struct("=i")
_MAX_DATAGRAM = 65536
# struct gpio_v2_line_event: timestamp_ns, id, offset, seqno, line_seqno, padding[6]
_EDGE = struct.Struct("=QIIII24x")
_FALLING_EDGE = 2


class IrqWire:
    """The wire from a chip's interrupt pin to a GPIO, and the thread that lets the pin fall when it is time."""

    def __init__(self, folder: Path, gpio: int, chip: Mfrc522Chip, lock: threading.Lock) -> None:
        self._gpio, self._chip = gpio, chip
        self._changed = threading.Condition(lock)
        self._edges = 0
        self._watchers: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(folder / f"gpio{gpio}.sock"))
        self._listener.listen(8)
        chip.on_irq = self._fall
        for work in (self._accept, self._tick):
            threading.Thread(target=work, daemon=True).start()

    def changed(self) -> None:
        """Recompute when the chip is due; the caller holds the chip's lock."""
        if self._chip.irq_due_ns is not None:
            self._changed.notify()

    def _accept(self) -> None:
        while True:
            watcher, _ = self._listener.accept()
            watcher.setblocking(False)
            self._watchers.append(watcher)

    def _fall(self) -> None:
        self._edges += 1
        event = _EDGE.pack(time.monotonic_ns(), _FALLING_EDGE, self._gpio, self._edges, self._edges)
        for watcher in list(self._watchers):
            try:
                watcher.send(event)
            except BlockingIOError:
                continue  # a full event buffer of the kernel drops edges too
            except OSError:
                self._watchers.remove(watcher)

    def _tick(self) -> None:
        with self._changed:
            while True:
                due_ns = self._chip.irq_due_ns
                wait_seconds = None if due_ns is None else (due_ns - time.monotonic_ns()) / 1e9
                if wait_seconds is None or wait_seconds > 0:
                    self._changed.wait(wait_seconds)
                else:
                    self._chip.settle()


class Device:
    """One spidev with its chip and the faults of its bus."""

    def __init__(self, folder: Path, name: str) -> None:
        self.chip = Mfrc522Chip()
        self.calls = 0
        self.errors_left = 0
        self.errno = 0
        self.flip_every = 0
        self.speed_hz = 0
        self.irq: IrqWire | None = None
        self._folder = folder
        self._lock = threading.Lock()
        self._bytes = 0
        self._path = str(folder / f"{name}.sock")
        self._listener: socket.socket | None = None
        self._links: list[socket.socket] = []
        self.held: dict[str, cards.Card] = {}
        self.plug()

    def wire_irq(self, gpio: int) -> None:
        """Join the chip's interrupt pin to a GPIO."""
        self.irq = IrqWire(self._folder, gpio, self.chip, self._lock)

    def plug(self) -> None:
        """Make the device node appear."""
        self.unplug()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self._path)
        listener.listen(8)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def unplug(self) -> None:
        """Make the device node and every open descriptor of it vanish."""
        Path(self._path).unlink(missing_ok=True)
        if self._listener:
            self._listener.close()
        for link in self._links:
            link.close() if link.fileno() < 0 else link.shutdown(socket.SHUT_RDWR)
        self._links.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            if listener is not self._listener:
                link.close()
                return
            self._links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        transfer = self.chip.transfer
        with link:
            while True:
                try:
                    request = link.recv(_MAX_DATAGRAM)
                except ConnectionResetError:
                    break  # the program was ended in the middle of a call
                if not request:
                    break
                first, count = _HEAD.unpack_from(request)
                self.calls += first
                if self.errors_left:
                    self.errors_left -= 1
                    link.send(_STATUS.pack(self.errno))
                    continue
                place = _HEAD.size
                answer = bytearray(_STATUS.size)
                with self._lock:
                    for _ in range(count):
                        length, self.speed_hz = _ENTRY.unpack_from(request, place)
                        place += _ENTRY.size
                        answer += transfer(request[place : place + length])
                        place += length
                    if self.irq:
                        self.irq.changed()
                if self.flip_every:
                    self._flip(answer)
                link.send(answer)
        if link in self._links:
            self._links.remove(link)

    def _flip(self, answer: bytearray) -> None:
        # A noisy line: one bit in every so many bytes arrives wrong.
        for place in range(_STATUS.size, len(answer)):
            self._bytes += 1
            if self._bytes % self.flip_every == 0:
                answer[place] ^= 1 << self._bytes // self.flip_every % 8


def perform(devices: Mapping[str, Device], order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one control command."""
    device = devices[order["device"]]
    field = device.chip.field
    match order["do"]:
        case "enter":
            kind = getattr(cards, order["kind"], None) or getattr(issued_cards, order["kind"])
            card = kind(bytes.fromhex(order["uid"])) if order["uid"] else kind()
            card.power_up_us = order.get("power_up_us", 0)
            entered_ns = field.enter(card)
            device.held[order["uid"]] = card
            return {"ns": entered_ns}
        case "leave":
            field.leave(device.held.pop(order["uid"]) if order.get("uid") else None)
        case "couple":
            field.couple(devices[order["other"]].chip.field)
        case "wire_irq":
            device.wire_irq(order["gpio"])
        case "stats":
            return {"calls": device.calls, "transfers": device.chip.transfers, "speed_hz": device.speed_hz}
        case _:
            _trouble(device, order)
    return {}


def _trouble(device: Device, order: dict[str, Any]) -> None:
    match order["do"]:
        case "power_cycle":
            device.chip.power_cycle()
        case "break":
            device.chip.broken = order["level"]
        case "plug":
            device.plug()
        case "unplug":
            device.unplug()
        case "fail":
            device.errno, device.errors_left = order["errno"], order["count"]
        case "flip":
            device.flip_every = order["every"]
        case "version":
            device.chip.version = order["version"]
            device.chip.power_cycle()
        case other:
            raise ValueError(f"no command {other!r}")


def main(folder: Path, names: list[str]) -> None:
    devices = {name: Device(folder, name) for name in names}
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.bind(str(folder / "control.sock"))
    control.listen(1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    link, _ = control.accept()
    with link, link.makefile("rw", encoding="utf-8") as lines:
        for line in lines:
            order = json.loads(line)
            try:
                answer = perform(devices, order)
            except (KeyError, ValueError, AttributeError) as error:
                answer = {"error": repr(error)}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
    # The owner has gone; nobody waits for the threads that serve sockets.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
