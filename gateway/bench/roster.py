"""Roster of 100,000 cards: ready, look-up, memory and delta, against a TinyDB table of the same cards."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tinydb import TinyDB, where

from gateway.access.people import CardEntry, CardState
from gateway.roster.file import RosterContent, build, rule_for_everyone
from gateway.roster.publication import apply_delta, make_delta
from gateway.roster.signing import Signer, Trust
from gateway.roster.snapshot import Snapshot

CARDS = 100_000
_LOOK_UPS = 20_000
_PEER_LOOK_UPS = 5
_CHANGED = 0.005
_KEY = bytes(32)


def sample_cards(count: int, seed: int = 1) -> dict[bytes, CardEntry]:
    """Draw cards of a school with the usual number of groups."""
    draw = random.Random(seed)
    groups = [frozenset({"student", f"{year}{form}"}) for year in range(7, 14) for form in "ABCDEFGH"]
    return {
        draw.randbytes(16): CardEntry(
            f"p_{draw.randbytes(8).hex()}", CardState.ACTIVE, groups[number % len(groups)], None, None, True
        )
        for number in range(count)
    }


def anonymous_memory_bytes() -> int:
    """Return this process's memory without what is mapped from files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def run_bench() -> dict[str, Any]:
    """Measure; times are medians."""
    cards = sample_cards(CARDS)
    signer, trust = Signer(Ed25519PrivateKey.from_private_bytes(_KEY)), Trust(_KEY)
    content = RosterContent("bench", 1, cards, {"lane-1": rule_for_everyone()})
    raw = build(content, signer, _KEY)
    keys = random.Random(2).choices(sorted(cards), k=_LOOK_UPS)
    changed = dict(cards)
    for key in keys[: int(CARDS * _CHANGED)]:
        changed[key] = replace(changed[key], state=CardState.LOST)
    newer = build(replace(content, version=2, cards=changed), signer, _KEY, previous=raw)
    delta = make_delta(raw, newer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "current.roster"
        path.write_bytes(raw)
        peer = TinyDB(Path(folder) / "roster.json")
        peer.insert_multiple({"key": key.hex(), "person": entry.person, "state": 1} for key, entry in cards.items())
        memory = anonymous_memory_bytes()
        ready_ms, snapshot = _timed(lambda: Snapshot.open(path, trust, "bench"))
        memory = anonymous_memory_bytes() - memory
        look_up_us, peer_us = [], []
        for number, key in enumerate(keys):
            look_up_us.append(_timed(partial(snapshot.find, key))[0] * 1000)
            if number % (_LOOK_UPS // _PEER_LOOK_UPS) == 0:
                peer_us.append(_timed(partial(peer.get, where("key") == key.hex()))[0] * 1000)
        delta_ms = [_timed(lambda: Snapshot(apply_delta(raw, delta), trust, "bench"))[0] for _ in range(5)]
        peer.close()
    ours = {
        "cards": CARDS,
        "file_bytes": len(raw),
        "ready_ms": round(ready_ms, 2),
        "own_memory_bytes": memory,
        "look_up_us_p50": round(statistics.median(look_up_us), 2),
        "look_up_us_p99": round(sorted(look_up_us)[int(len(look_up_us) * 0.99)], 2),
        "delta_bytes": len(delta),
        "delta_apply_and_verify_ms": round(statistics.median(delta_ms), 2),
    }
    peers = {"tinydb 4.9 JSONStorage": {"look_up_us_p50": round(statistics.median(peer_us), 1)}}
    ratio = statistics.median(peer_us) / statistics.median(look_up_us)
    return {"name": "roster", "unit": "us, ms, bytes", "ours": ours, "peers": peers, "ratio": round(ratio)}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter_ns()
    result = call()
    return (time.perf_counter_ns() - started) / 1e6, result
