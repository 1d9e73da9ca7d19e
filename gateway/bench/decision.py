"""Time from UID to performed output in the whole daemon with 100,000 cards, idle and under page load, against TinyDB.

The taps enter where the reader hands them over (a silent line reader, so that no emulated chip takes time); journal,
points and outputs are the real ones. Busy means eight open live pages and fifty page loads a second from another
process.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tinydb import TinyDB, where

from gateway.access.people import EVERY_POINT, CardEntry
from gateway.bench.roster import CARDS, sample_cards
from gateway.cards.identity import CardNumber, card_key
from gateway.config import load_gateway
from gateway.edge.app import Gateway
from gateway.errors import FatalError
from gateway.outputs.simulated import SimulatedStrike
from gateway.readers.base import DRIVERS, CardRead
from gateway.roster.file import RosterContent, build, rule_for_everyone
from gateway.roster.signing import Signer
from gateway.simulator.chips import SimulatedTransports

_SITE_KEY = bytes(32)
_KNOWN = 500
_TAPS = 400
_PEER_TAPS = 4
_TAP_PAUSE_SECONDS = 0.01
_TOML = """
[gateway]
id = "gw-bench"
site = "bench"
state_dir = "state"
site_key_file = "site.key"
[web]
port = 0
[[reader]]
id = "front-in"
driver = "serial-line"
port = "/dev/tapgate/front-in"
point = "front-door"
[[point]]
id = "front-door"
kind = "door"
unlock_seconds = 0.1
"""
_LOAD = """
import sys, threading, time, urllib.request
address = sys.argv[1]
def live():
    with urllib.request.urlopen(address + "/events", timeout=60) as stream:
        for _ in stream: pass
for _ in range(8): threading.Thread(target=live, daemon=True).start()
print("ready", flush=True)
while True:
    started = time.monotonic()
    with urllib.request.urlopen(address + "/", timeout=10) as page: page.read()
    time.sleep(max(0, 0.02 - (time.monotonic() - started)))
"""


def run_bench() -> dict[str, Any]:
    """Measure our daemon idle, under load, and the peer, in turns."""
    draw = random.Random(3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gateway = make_gateway(folder, _TOML)
        numbers, entries = install_cards(gateway, draw, CARDS, _KNOWN)
        peer = TinyDB(folder / "roster.json")
        peer.insert_multiple({"key": key.hex(), "person": entry.person} for key, entry in entries.items())
        gateway.start()
        try:
            quiet, peer_us = [], []
            for number in range(_PEER_TAPS):
                quiet += _taps(gateway, draw.choices(numbers, k=_TAPS // _PEER_TAPS))
                key = card_key(_SITE_KEY, numbers[number]).hex()
                started = time.perf_counter_ns()
                peer.get(where("key") == key)
                peer_us.append((time.perf_counter_ns() - started) / 1e3)
            busy = _busy(gateway, draw.choices(numbers, k=_TAPS))
        finally:
            gateway.stop()
            peer.close()
    ours = {"cards": len(entries), "quiet_us": spread(quiet), "busy_us": spread(busy)}
    peers = {"tinydb 4.9 JSONStorage, look-up alone": {"us": spread(peer_us)}}
    return {
        "name": "decision",
        "unit": "us from UID known to output performed",
        "ours": ours,
        "peers": peers,
        "ratio": round(spread(peer_us)["p50"] / spread(quiet)["p50"]),
    }


def make_gateway(folder: Path, text: str) -> Gateway:
    """Build a whole daemon from the text of its gateway.toml; the strike of `front-door` is simulated."""
    (folder / "site.key").write_text(_SITE_KEY.hex(), encoding="ascii")
    (folder / "gateway.toml").write_text(text, encoding="utf-8")
    settings = load_gateway(folder / "gateway.toml", tuple(DRIVERS))
    return Gateway(settings, SimulatedTransports(), strikes={"front-door": SimulatedStrike()})


def install_cards(
    gateway: Gateway, draw: random.Random, cards: int, known: int
) -> tuple[list[CardNumber], dict[bytes, CardEntry]]:
    """Put a roster in force that lets everybody pass; return the numbers of its known cards, and all entries."""
    numbers = [CardNumber("uid", b"\x04" + draw.randbytes(6)) for _ in range(known)]
    entries = sample_cards(cards)
    sample = next(iter(entries.values()))
    entries |= {card_key(_SITE_KEY, number): sample for number in numbers}
    content = RosterContent("bench", 1, entries, {EVERY_POINT: rule_for_everyone()})
    gateway.roster.install(build(content, Signer(Ed25519PrivateKey.from_private_bytes(bytes(32))), _SITE_KEY))
    return numbers, entries


def _taps(gateway: Gateway, numbers: Sequence[CardNumber]) -> list[float]:
    stats = gateway.tapline.stats
    stats.output_us.clear()

    def tap() -> None:
        for number in numbers:
            gateway.tapline.handle(CardRead("front-in", number, "mifare-classic-1k", time.monotonic_ns()))
            time.sleep(_TAP_PAUSE_SECONDS)

    bus = threading.Thread(target=tap, name="bus bench")
    bus.start()
    bus.join()
    return list(stats.output_us)


def address_of(gateway: Gateway) -> str:
    """Return where the pages listen; their process needs a second or two to start."""
    deadline = time.monotonic() + 30
    while gateway.desk is None or gateway.desk.address is None:
        if time.monotonic() > deadline:
            raise FatalError("The pages did not start within 30 s.")
        time.sleep(0.05)
    return gateway.desk.address


def _busy(gateway: Gateway, numbers: Sequence[CardNumber]) -> list[float]:
    load = subprocess.Popen(
        [sys.executable, "-c", _LOAD, address_of(gateway)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert load.stdout is not None
        load.stdout.readline()
        return _taps(gateway, numbers)
    finally:
        load.kill()
        load.wait()
        if load.stdout:
            load.stdout.close()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum."""
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "max": round(ordered[-1], 1),
    }
