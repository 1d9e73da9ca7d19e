"""One gateway of the demo, in a process of its own: the real daemon over simulated wires.

Standard input takes one JSON object a line, standard output answers in kind:

    {"n": 1, "reader": "lane-1", "uid": "04A1..", "dwell_ms": 150}
    -> {"n": 1, "reader": "lane-1", "read": true, "uid_ms": 2.9}
    {"end": true}
    -> {"figures": {...}} and the daemon stops

`uid` null holds up a phone, which draws a random UID. Each reader has its own queue, so readers tap at the same time.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.config import load_gateway
from gateway.edge.app import Gateway
from gateway.outputs.simulated import SimulatedStrike
from gateway.readers.base import DRIVERS
from gateway.simulator.chips import SimulatedTransports
from gateway.simulator.iso14443_cards import CLASSIC_1K, NTAG, PHONE, Card

READ_SECONDS = 2.0
# A card must be away this long before the next one is held up, as hands do in a queue.
GAP_SECONDS = 0.05


class Hands:
    """Taps cards at one reader, one after the other."""

    def __init__(self, gateway: Gateway, wires: SimulatedTransports, reader: str, port: str, driver: str) -> None:
        self._vitals = gateway.readers[reader].vitals
        self._wires, self._reader, self._port, self._driver = wires, reader, port, driver
        self.wishes: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=f"hands {reader}", daemon=True)

    def _run(self) -> None:
        while (wish := self.wishes.get()) is not None:
            _say(self._tap(wish))

    def _tap(self, wish: dict[str, Any]) -> dict[str, Any]:
        before = self._vitals.presentations
        uid = bytes.fromhex(wish["uid"]) if wish["uid"] else None
        if self._driver == "serial-line":
            entered_ns = self._wires.line(self._port).tap(uid or bytes(4))
            read = self._wait_for_read(before)
        else:
            field = self._wires.field(self._port)
            card = Card(PHONE if uid is None else CLASSIC_1K if len(uid) == 4 else NTAG, uid)
            entered_ns = time.monotonic_ns()
            field.enter(card)
            time.sleep(wish["dwell_ms"] / 1000)
            read = self._wait_for_read(before)
            field.leave(card)
        time.sleep(GAP_SECONDS)
        uid_ms = (self._vitals.last_read_ns - entered_ns) / 1e6 if read else None
        return {"n": wish["n"], "reader": self._reader, "read": read, "uid_ms": uid_ms}

    def _wait_for_read(self, before: int) -> bool:
        deadline = time.monotonic() + READ_SECONDS
        while self._vitals.presentations == before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(words: Sequence[str] | None = None) -> int:
    """Run one gateway of the demo until it is asked to stop or its standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    settings = load_gateway(arguments.config, tuple(DRIVERS))
    wires = SimulatedTransports()
    doors = {item.id: SimulatedStrike() for item in settings.points if item.kind == "door"}
    gateway = Gateway(settings, wires, strikes=doors)
    hands = {item.id: Hands(gateway, wires, item.id, item.port, item.driver) for item in settings.readers}
    gateway.start()
    for hand in hands.values():
        hand.thread.start()
    for line in sys.stdin:
        wish = json.loads(line)
        if wish.get("end"):
            break
        hands[wish["reader"]].wishes.put(wish)
    for hand in hands.values():
        hand.wishes.put(None)
        hand.thread.join()
    stats = gateway.tapline.stats
    _say({"figures": {"output_us": list(stats.output_us), "answered_us": list(stats.answered_us)}})
    gateway.stop()
    wires.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
