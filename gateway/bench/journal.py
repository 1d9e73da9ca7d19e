"""`tapgate bench journal`: one durable tap with 100,000 waiting, ours and stock TinyDB in turn in one run.

A stock insert writes the whole file again, so it gets few rounds; each of ours is appended alone and waited for.
Bytes are what the block device took (/proc/diskstats), file system journal included, or what this process wrote where
there is no block device below the folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tinydb import TinyDB

from gateway.access.event import CardRef, Event
from gateway.journal.journal import Journal

WAITING = 100_000
ROUNDS = 12
OURS_PER_ROUND = 100
BURST_EVENTS = 64
_GATEWAY = "gw-bench"
_SECTOR_BYTES = 512


def make_tap(number: int) -> Event:
    """Make a tap of usual size, about 330 bytes stored; the person is invented."""
    return Event(
        gw=_GATEWAY,
        boot=1,
        at="2026-11-22T08:31:04.123Z",
        clock="ntp",
        up=1234.567 + number,
        kind="tap",
        point="lane-1",
        reader="lane-1",
        card=CardRef(f"{number:032x}", "E5F6", "mifare-classic-1k"),
        person=f"p_{number:016x}",
        decision="granted",
        reason="ok",
        rule="lunch",
        roster=412,
        took_us=184,
    )


def _written_bytes(folder: Path) -> int:
    """Return what was written to the device below a folder since boot, or by this process."""
    device = folder.stat().st_dev
    for line in Path("/proc/diskstats").read_text(encoding="ascii").splitlines():
        words = line.split()
        if (int(words[0]), int(words[1])) == (os.major(device), os.minor(device)):
            return int(words[9]) * _SECTOR_BYTES
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


@dataclass(slots=True)
class _Side:
    seconds: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)

    def measure(self, folder: Path, times: int, insert: Callable[[], object]) -> None:
        before = _written_bytes(folder)
        for _ in range(times):
            started = time.perf_counter()
            insert()
            self.seconds.append(time.perf_counter() - started)
        self.written.append((_written_bytes(folder) - before) / times)

    def result(self) -> dict[str, float]:
        cuts = quantiles(self.seconds, n=100, method="inclusive")
        return {
            "p50_us": round(median(self.seconds) * 1e6, 1),
            "p99_us": round(cuts[98] * 1e6, 1),
            "taps": len(self.seconds),
            # The median of the rounds: the device serves other processes too.
            "device_bytes_per_tap": round(median(self.written)),
        }


_OPEN_OURS = """
from gateway.journal.journal import Journal
kept = Journal.open(pathlib.Path(sys.argv[1]), "gw-bench", quota_bytes=1 << 30, keep_days=0)
kept.after(kept.acked, 50)
"""
_SCAN_OURS = "\nlen(kept.tinydb)\n"
_OPEN_STOCK = """
from tinydb import TinyDB
kept = TinyDB(sys.argv[1])
len(kept)
"""
_PROBE = """
import json, pathlib, sys, time
def memory(name):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name)) * 1024
import gateway.journal.journal, tinydb
base, started = memory("VmHWM"), time.perf_counter()
{body}
print(json.dumps({{"ms": (time.perf_counter() - started) * 1e3, "rss": memory("VmHWM") - base}}))
sys.stdout.flush()
__import__("os")._exit(0)
"""


def _opened(body: str, path: Path, times: int = 3) -> dict[str, float]:
    """Open in a fresh process; returns the median milliseconds and by how much the memory rose at its peak."""
    results: list[dict[str, float]] = []
    for _ in range(times):
        command = [sys.executable, "-c", _PROBE.format(body=body), str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        results.append(json.loads(done.stdout))
    return {
        "ms": round(median(result["ms"] for result in results), 1),
        "peak_rss_mb": round(median(result["rss"] for result in results) / 1e6, 1),
    }


def run_bench(waiting: int = WAITING) -> dict[str, Any]:
    """Measure both sides; takes about half a minute."""
    with tempfile.TemporaryDirectory(prefix="tapgate-bench-") as name:
        return _run(Path(name), waiting)


def _run(folder: Path, waiting: int) -> dict[str, Any]:
    journal = Journal.open(folder / "journal", _GATEWAY, quota_bytes=1 << 30, keep_days=0)
    first = journal.append(make_tap(0))
    first.wait()
    documents = {}
    raw = json.loads(journal.after(0, 1)[0][1])
    for start in range(1, waiting, 500):
        tickets = [journal.append(make_tap(number)) for number in range(start, min(start + 500, waiting))]
        tickets[-1].wait()
    for number in range(1, waiting + 1):
        documents[str(number)] = raw | {"seq": number}
    stock_file = folder / "stock.json"
    stock_file.write_text(json.dumps({"_default": documents}), encoding="utf-8")
    del documents
    stock = TinyDB(stock_file)
    stock.insert(raw)
    ours, theirs, burst = _Side(), _Side(), _Side()
    for number in range(ROUNDS):
        ours.measure(folder, OURS_PER_ROUND, lambda: journal.append(make_tap(1)).wait())
        theirs.measure(folder, 1, lambda: stock.insert(raw))
        before = _written_bytes(folder)
        started = time.perf_counter()
        tickets = [journal.append(make_tap(number)) for number in range(BURST_EVENTS)]
        tickets[-1].wait()
        burst.seconds.append((time.perf_counter() - started) / BURST_EVENTS)
        burst.written.append((_written_bytes(folder) - before) / BURST_EVENTS)
    stock.close()
    journal.close()
    mine, peer = ours.result(), theirs.result()
    mine["burst_us_per_tap"] = round(median(burst.seconds) * 1e6, 1)
    mine["burst_device_bytes_per_tap"] = round(median(burst.written))
    return {
        "name": "journal",
        "unit": f"one durable tap, {waiting} waiting",
        "ours": mine
        | {
            "open": _opened(_OPEN_OURS, folder / "journal"),
            "scan": _opened(_OPEN_OURS + _SCAN_OURS, folder / "journal"),
        },
        "peers": {f"tinydb {version('tinydb')} JSONStorage": peer | {"open": _opened(_OPEN_STOCK, stock_file)}},
        "ratio": round(peer["p50_us"] / mine["p50_us"]),
    }
