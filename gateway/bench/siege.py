"""Taps of a door and a lane while hostile clients besiege the pages, and events of a gateway while one floods the hub.

Each siege is a process of its own, and so are the pages; each is followed by a calm turn, so that ours is compared with
itself a moment before. The hub is flooded with events of epochs that nobody began, by a gateway that is let in.
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

from gateway.access.event import FIRST_PREV, Event, encode_event, join_events
from gateway.bench.decision import address_of, install_cards, make_gateway, spread
from gateway.cards.identity import CardNumber
from gateway.edge.app import Gateway
from gateway.hub.ingest.commit import Committer
from gateway.hub.ingest.parse import Incoming
from gateway.hub.store import tables
from gateway.hub.store.engine import open_store
from gateway.readers.base import CardRead

_CARDS = 20_000
_TAPS = 200
_ROUNDS = 3
_EPOCHS = 20_000
_KNOWN = 200
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
[[reader]]
id = "lane-in"
driver = "serial-line"
port = "/dev/tapgate/lane-in"
point = "lane-1"
[[point]]
id = "front-door"
kind = "door"
unlock_seconds = 0.1
[[point]]
id = "lane-1"
kind = "lane"
"""
# Each says `ready` once it does its worst, and goes on until it is ended.
_OPEN = """
import resource, socket, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
port = int(sys.argv[1])
def connect():
    try: return socket.create_connection(("127.0.0.1", port), 2)
    except OSError: return None
"""
SIEGES = {
    "2,000 idle connections": _OPEN
    + """
held = [connect() for _ in range(2000)]
print("ready", flush=True)
while True:
    time.sleep(0.05)
    for place in range(0, 2000, 40):
        if held[place]: held[place].close()
        held[place] = connect()
""",
    "200 connections that drip headers": _OPEN
    + """
held = [connect() for _ in range(200)]
print("ready", flush=True)
while True:
    for place, one in enumerate(held):
        try: one.send(b"X")
        except (OSError, AttributeError): held[place] = connect()
    time.sleep(0.2)
""",
    "bodies of 600 MiB": _OPEN
    + """
head = b"POST /readers/identify HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nTransfer-Encoding: chunked\\r\\n"
head += b"Content-Type: application/x-www-form-urlencoded\\r\\n\\r\\n"
chunk = b"100000\\r\\n" + bytes(1 << 20) + b"\\r\\n"
print("ready", flush=True)
while True:
    one = connect()
    try:
        one.sendall(head)
        for _ in range(600): one.sendall(chunk)
    except (OSError, AttributeError): pass
""",
}


def run_bench() -> dict[str, Any]:
    """Measure calm and besieged turns one after the other, then the hub."""
    with tempfile.TemporaryDirectory() as name:
        taps = _besiege(Path(name))
        hub = _flood(Path(name))
    calm = taps.pop("calm")
    worst = max(values["door_us"]["p99"] for values in taps.values())
    return {
        "name": "siege",
        "unit": "us from UID known to door output, and to recorded answer of a lane",
        "ours": {**taps, "hub": hub},
        "peers": {"the same, calm": calm},
        "ratio": round(worst / calm["door_us"]["p99"], 2),
    }


def _besiege(folder: Path) -> dict[str, Any]:
    draw = random.Random(3)
    gateway = make_gateway(folder, _TOML)
    numbers, _ = install_cards(gateway, draw, _CARDS, _KNOWN)
    gateway.start()
    found: dict[str, tuple[list[float], list[float]]] = {"calm": ([], [])}
    try:
        port = address_of(gateway).rpartition(":")[2]
        for _ in range(_ROUNDS):
            for siege, program in SIEGES.items():
                _collect(found, "calm", _tap(gateway, draw.choices(numbers, k=_TAPS)))
                with _Attacker(program, port):
                    _collect(found, siege, _tap(gateway, draw.choices(numbers, k=_TAPS)))
        refused = gateway.journal.stats().refused
    finally:
        gateway.stop()
    figures: dict[str, Any] = {
        name: {"door_us": spread(door), "lane_us": spread(lane)} for name, (door, lane) in found.items()
    }
    for name in SIEGES:
        figures[name]["events refused by the journal"] = refused
    return figures


def _collect(
    found: dict[str, tuple[list[float], list[float]]], name: str, turn: tuple[Sequence[float], Sequence[float]]
) -> None:
    door, lane = found.setdefault(name, ([], []))
    door += turn[0]
    lane += turn[1]


def _tap(gateway: Gateway, numbers: Sequence[CardNumber]) -> tuple[list[float], list[float]]:
    stats = gateway.tapline.stats
    stats.output_us.clear()
    stats.answered_us.clear()

    def bus() -> None:
        for place, number in enumerate(numbers):
            reader = "lane-in" if place % 2 else "front-in"
            gateway.tapline.handle(CardRead(reader, number, "mifare-classic-1k", time.monotonic_ns()))
            time.sleep(0.01)

    thread = threading.Thread(target=bus, name="bus bench")
    thread.start()
    thread.join()
    return list(stats.output_us), list(stats.answered_us)


class _Attacker:
    """A hostile process while the block runs."""

    def __init__(self, program: str, port: str) -> None:
        self._command = [sys.executable, "-c", program, port]

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _flood(folder: Path) -> dict[str, Any]:
    """Commit the live taps of one gateway alone, then beside forged epochs of another."""
    store = open_store("sqlite:///siege.db", folder)
    store.migrate()
    with store.write() as connection:
        row = {"id": "bench", "name": "Bench", "timezone": "UTC", "key_file": "none", "edited": False}
        connection.execute(tables.site.insert().values(**row, trust_unenrolled=True))
    committer = Committer(store)
    calm = [_commit_ms(committer, seq, 0) for seq in range(1, 101)]
    flooded = [_commit_ms(committer, seq, _EPOCHS // 100) for seq in range(101, 201)]
    with store.read() as connection:
        epochs = len(connection.execute(tables.mark.select()).all())
    size = (folder / "siege.db").stat().st_size
    store.close()
    return {
        "calm commit ms": spread(calm),
        "commit ms of a message that carries a tap and 200 forged epochs": spread(flooded),
        "epochs kept of 20,000 forged": epochs - 1,
        "database bytes": size,
    }


def _commit_ms(committer: Committer, seq: int, forged: int) -> float:
    messages = [_message("gw-good", [_event("gw-good", "5f1c9a02", seq)])]
    epochs = [f"{seq * 1000 + number:08x}" for number in range(forged)]
    messages += [
        _message("gw-bad", [_event("gw-bad", epoch, 1) for epoch in epochs[at : at + 50]])
        for at in range(0, forged, 50)
    ]
    started = time.perf_counter()
    committer.commit(messages)
    return (time.perf_counter() - started) * 1000


def _message(gateway: str, events: list[bytes]) -> Incoming:
    return Incoming(f"tapgate/v1/bench/{gateway}/taps", join_events(events), time.time_ns() // 1_000_000)


def _event(gateway: str, epoch: str, seq: int) -> bytes:
    return encode_event(
        Event(
            gw=gateway,
            epoch=epoch,
            seq=seq,
            boot=1,
            at="2026-11-22T08:00:00.000Z",
            clock="ntp",
            up=1.0,
            kind="tap",
            point="lane-1",
            reader="lane-1",
            decision="denied",
            reason="card_unknown",
            prev=FIRST_PREV,
        )
    )
