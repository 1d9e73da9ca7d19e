"""Speed and reliability of card reads: our RC522 driver and its peers on one virtual Pi, in turns.

Every tap is a card of its own that enters the field of a chip in another process, stays for the dwell and leaves; a
driver has read it when it names that UID. Drivers run one at a time in processes of their own, in short turns, so that
whatever else this machine does falls on all of them. Without gcc the same chip is joined in this process, for our
driver alone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import queue
import random
import statistics
import subprocess  # drivers are measured as programs
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from gateway.bench.reader_drivers import ANSWER_SECONDS, DEVICE, IRQ_GPIO
from gateway.readers.base import CardRead
from gateway.readers.rc522 import driver as rc522
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.iso14443_cards import classic_1k
from gateway.simulator.virtual_pi import PI_IOCTL_US, PI_TRANSFER_US, VirtualPi, missing

DWELLS_MS = (300, 100, 30)
_TURN = 10
_OURS = "rc522"
_PEERS = {"mfrc522": "mfrc522", "pi-rc522": "pirc522"}


def run_bench(taps: int = 60, *, peers: bool = True, seed: int = 1) -> dict[str, Any]:
    """Measure and return one JSON-able object.

    Args:
        taps: cards a driver and dwell, and a row of several readers or of content; the bars ask for 500.
    """
    reason = missing()
    if reason:
        return _in_process(taps, reason, seed)
    names = [_OURS, *(name for name, package in _PEERS.items() if peers and importlib.util.find_spec(package))]
    results: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        # One Pi a driver: each has its own chip, none waits for another's lock.
        stations = {name: stack.enter_context(_station(name)) for name in names}
        for name, station in stations.items():
            results[name] = station.count_empty_polls()
        reads: dict[tuple[str, int], list[float | None]] = {}
        chance = random.Random(seed)
        for dwell_ms in DWELLS_MS:
            for turn in range(0, taps, _TURN):
                for name, station in stations.items():
                    turn_taps = min(_TURN, taps - turn)
                    reads.setdefault((name, dwell_ms), []).extend(station.tap(turn_taps, dwell_ms, chance))
        for (name, dwell_ms), times in reads.items():
            results[name][f"dwell_{dwell_ms}_ms"] = _summary(times)
        for name in names:
            results[name]["all_dwells"] = _summary([time for dwell_ms in DWELLS_MS for time in reads[name, dwell_ms]])
    results[_OURS]["idle_cpu_percent"] = _idle_cpu()
    results[_OURS] |= _several_readers(taps, seed)
    results[_OURS] |= _content_reads(taps, seed)
    ours = results.pop(_OURS)
    named = {f"{name} {importlib.metadata.version(name)}": result for name, result in results.items()}
    return {
        "name": "reader",
        "unit": "ms",
        "ours": ours,
        "peers": named,
        "ratio": {
            name: {
                "empty_poll_transfers": round(result["empty_poll_transfers"] / ours["empty_poll_transfers"], 1),
                "median_tap_to_uid_100_ms": _ratio(result["dwell_100_ms"]["median"], ours["dwell_100_ms"]["median"]),
            }
            for name, result in named.items()
        },
        "machine": _machine("virtual Pi, 35 us a call and 12 us a transfer"),
    }


def _ratio(theirs: float | None, own: float | None) -> float | None:
    return round(theirs / own, 1) if theirs and own else None


def _machine(bench: str) -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {bench}"


def _summary(times: list[float | None]) -> dict[str, Any]:
    known = sorted(item for item in times if item is not None)
    summary: dict[str, Any] = {"taps": len(times), "missed": len(times) - len(known), "median": None, "p95": None}
    if known:
        summary["median"] = round(statistics.median(known), 2)
        summary["p95"] = round(known[min(len(known) - 1, int(len(known) * 0.95))], 2)
        summary["max"] = round(known[-1], 2)
    return summary


class _Station:
    """One driver in its own process, with the Pi under it.

    Args:
        card: what is held to it, a maker of cards as virtual_pi_chips knows it.

    Attributes:
        cpu_ms: processor time of each look that read a card.
    """

    def __init__(self, pi: VirtualPi, driver: str, card: str = "classic_1k") -> None:
        self.cpu_ms: list[float] = []
        self._pi = pi
        self._card = card
        self._serial = 0
        self._child = pi.spawn(
            [sys.executable, "-W", "ignore", "-m", "gateway.bench.reader_drivers", driver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._hear()

    def _listen(self) -> None:
        if self._child.stdout:
            for line in self._child.stdout:
                self._replies.put(json.loads(line))

    def _say(self, word: str) -> None:
        if self._child.stdin:
            self._child.stdin.write(word + "\n")
            self._child.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        return self._replies.get(timeout=ANSWER_SECONDS)

    def count_empty_polls(self, polls: int = 5) -> dict[str, Any]:
        # The first look after a pause may carry the health check of the second.
        self._say("poll 1")
        self._hear()
        before = self._pi.stats(DEVICE)
        self._say(f"poll {polls}")
        spent = self._hear()
        after = self._pi.stats(DEVICE)
        return {
            "empty_poll_transfers": round((after["transfers"] - before["transfers"]) / polls, 1),
            "empty_poll_calls": round((after["calls"] - before["calls"]) / polls, 1),
            "empty_poll_ms": round(spent["wall"] / polls * 1000, 2),
        }

    def tap(self, count: int, dwell_ms: float, chance: random.Random) -> list[float | None]:
        """Hold cards to the reader; returns milliseconds from entry to UID, None for a tap that was not read."""
        self._say("watch")
        self._hear()
        times = [self._one_tap(dwell_ms / 1000, chance) for _ in range(count)]
        self._say("stop")
        while "stopped" not in self._hear():
            pass
        return times

    def _one_tap(self, dwell_seconds: float, chance: random.Random) -> float | None:
        self._serial += 1
        uid = (0x5A000000 | self._serial).to_bytes(4, "big").hex()
        time.sleep(chance.uniform(0.08, 0.12))
        entered_ns = self._pi.enter(DEVICE, self._card, uid)
        left = time.monotonic() + dwell_seconds
        time.sleep(dwell_seconds)
        self._pi.leave(DEVICE)
        # A slow driver may still be busy with what it saw before the card left.
        end = left + 0.15
        while (rest := end - time.monotonic()) > 0:
            try:
                reply = self._replies.get(timeout=rest)
            except queue.Empty:
                break
            if reply.get("uid", "")[:8] == uid:
                self.cpu_ms.append(reply["cpu"] * 1e3)
                return float(reply["ns"] - entered_ns) / 1e6
        return None

    def processor_percent(self, seconds: float) -> float:
        self._say(f"idle {seconds}")
        spent = self._hear()
        return float(spent["cpu"]) / float(spent["wall"]) * 100


@contextlib.contextmanager
def _station(driver: str, ioctl_us: int = PI_IOCTL_US, transfer_us: int = PI_TRANSFER_US) -> Iterator[_Station]:
    with VirtualPi((DEVICE,), ioctl_us, transfer_us) as pi:
        yield _Station(pi, driver)


def _idle_cpu(seconds: float = 10.0) -> float:
    # Here the cost of calls must not be imitated: it would be counted.
    with _station(_OURS, ioctl_us=0, transfer_us=0) as station:
        return round(station.processor_percent(seconds), 2)


def _several_readers(taps: int, seed: int) -> dict[str, Any]:
    """Tap at the first of one, two and four readers of a bus while cards rest at the others.

    Those that are polled have no `look` and come one after the other; those in a group take turns with their fields.
    """
    setups = {"one_on_one_bus": ("bus", 1)} | {
        f"{word}_{how}": (driver, count)
        for word, count in (("two", 2), ("four", 4))
        for how, driver in (
            ("on_one_bus", "bus"),
            ("on_one_bus_polled", "polled"),
            ("in_an_antenna_group", "group"),
        )
    }
    reads: dict[str, list[float | None]] = {name: [] for name in setups}
    with contextlib.ExitStack() as stack:
        stations = {}
        for name, (driver, count) in setups.items():
            ports = [f"spidev0.{select}" for select in range(count)]
            pi = stack.enter_context(VirtualPi(ports))
            stations[name] = _Station(pi, f"{driver}-{count}")
            for place, port in enumerate(ports[1:]):
                pi.enter(port, "classic_1k", f"0102030{place}")
        chance = random.Random(seed)
        for turn in range(0, taps, _TURN):
            for name, station in stations.items():
                # The first card after the other stations' turns meets a reader that has slowed down.
                station.tap(1, 60, chance)
                reads[name] += station.tap(min(_TURN, taps - turn), 100, chance)
    return {name: _summary(times) for name, times in reads.items()}


def _content_reads(taps: int, seed: int) -> dict[str, Any]:
    """Read a number in the card: by time from a Classic sector, by time and by interrupt from a DESFire file.

    The DESFire works 8 ms on each command; CPU is that of the whole look.
    """
    reads: dict[str, list[float | None]] = {"sector_by_time": [], "file_by_time": [], "file_by_irq": []}
    figures: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        stations = {}
        for name in reads:
            pi = stack.enter_context(VirtualPi((DEVICE,)))
            pi.order(DEVICE, "wire_irq", gpio=IRQ_GPIO)
            stations[name] = _Station(pi, name.replace("_", "-"), f"{name.partition('_')[0]}_card")
        chance = random.Random(seed)
        for turn in range(0, taps, _TURN):
            for name, station in stations.items():
                reads[name] += station.tap(min(_TURN, taps - turn), 100, chance)
        for name, station in stations.items():
            figures[name] = _summary(reads[name])
            figures[name]["median_cpu_ms"] = round(statistics.median(station.cpu_ms), 2) if station.cpu_ms else None
    return figures


def _in_process(taps: int, reason: str, seed: int) -> dict[str, Any]:
    wires = SimulatedTransports()
    reader = rc522.make("bench", f"/dev/{DEVICE}", rc522.Options(), wires)
    reader.open()
    wire_field = wires.field(f"/dev/{DEVICE}")
    seen: dict[bytes, int] = {}
    stop = threading.Event()

    def own() -> None:
        while not stop.is_set():
            for event in reader.poll():
                if isinstance(event, CardRead):
                    seen[event.number.value] = event.seen_ns
            time.sleep(reader.pause_seconds)

    owner = threading.Thread(target=own)
    owner.start()
    ours: dict[str, Any] = {}
    chance = random.Random(seed)
    for dwell_ms in DWELLS_MS:
        times: list[float | None] = []
        for number in range(taps):
            uid = (0x5A000000 | dwell_ms << 12 | number).to_bytes(4, "big")
            time.sleep(chance.uniform(0.08, 0.12))
            entered_ns = wire_field.enter(classic_1k(uid))
            time.sleep(dwell_ms / 1000)
            wire_field.leave()
            times.append((seen[uid] - entered_ns) / 1e6 if uid in seen else None)
        ours[f"dwell_{dwell_ms}_ms"] = _summary(times)
    stop.set()
    owner.join()
    machine = _machine(f"chip in this process: the virtual Pi {reason}")
    return {"name": "reader", "unit": "ms", "ours": ours, "peers": {}, "ratio": {}, "machine": machine}
