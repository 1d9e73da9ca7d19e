"""A gateway's journal and relay in a process of their own, which can be killed; shared by the fault harnesses.

The process appends taps at a steady pace and prints what its journal confirmed:

    boot 3
    kept SEQ NUMBER
    link offline
    done HEAD

Every tap has a NUMBER of its own, made from the boot, which the event carries as its person. SIGTERM ends the taps; the
process then waits until the hub has everything, says `done` and leaves.
"""

from __future__ import annotations

import argparse
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gateway.config import BrokerSettings
from gateway.edge.outbox import Outbox
from gateway.edge.relay import Relay
from gateway.journal.journal import Journal
from gateway.link import client
from tests.journal.journals import tap

SITE = "st-marys"
QUOTA_BYTES = 256 << 20
SEGMENT_BYTES = 64 << 10
_LOOK_SECONDS = 0.05
_SPEAKING = threading.Lock()


class GatewayProcess:
    """The process from outside.

    Args:
        front: words before the interpreter, for instance to enter a network namespace.
        options: further words for the process.

    Attributes:
        kept: what the journal confirmed: the tap's own number by its number in the journal.
        links: every state that the relay reported, with its time on the monotonic clock.
    """

    def __init__(
        self, folder: Path, port: int, *, gateway: str = "gw-canteen", front: tuple[str, ...] = (), **options: object
    ) -> None:
        words = [str(folder), "--port", str(port), "--gateway", gateway]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        self._command = [*front, sys.executable, "-m", "tests.edge.gateway_process", *words]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._booted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.folder, self.gateway = folder, gateway
        self.kept: dict[int, int] = {}
        self.links: list[tuple[float, str]] = []
        self.done: int | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def link(self) -> str:
        return self.links[-1][1] if self.links else ""

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()
        self._booted.get(timeout=60)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                return
            word, *rest = line.split()
            if word == "boot":
                self._booted.put(line)
            elif word == "kept":
                self.kept[int(rest[0])] = int(rest[1])
            elif word == "link":
                self.links.append((time.monotonic(), rest[0]))
            elif word == "done":
                self.done = int(rest[0])

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._leave(10)

    def finish(self, seconds: float) -> None:
        """End the taps and wait until the hub has everything; `done` stays None when it has not in time."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._leave(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def _leave(self, seconds: float) -> None:
        assert self._process is not None
        assert self._reader is not None
        assert self._process.stdout is not None
        self._process.wait(seconds)
        self._reader.join(10)
        self._process.stdout.close()


class SocketsWord(Outbox):
    """Wrong on purpose: what was handed to the socket counts as held by the hub, no watermark needed."""

    def was_sent(self, parcel: Any, mid: int, now: float, size: int = 0) -> None:
        super().was_sent(parcel, mid, now, size)
        self._coverage.add(parcel.first, parcel.last)
        self.watermark(self._coverage.upto, self._coverage.ranges, now)
        self._journal.acknowledge(self._coverage.upto, self._coverage.ranges)
        self._by_mid.pop(mid, None)


def spoil(relay: Relay, journal: Journal) -> None:
    """Make a relay that sends without asking for an answer and forgets what it sent, as many in the field do."""
    relay._outbox = SocketsWord(journal, 1.0)
    publish = relay._link._client.publish

    def unasked(topic: str, payload: bytes, qos: int = 0, **more: Any) -> Any:
        del qos
        return publish(topic, payload, qos=0, **more)

    relay._link._client.publish = unasked  # type: ignore[method-assign,assignment]


def say(*words: object) -> None:
    # Two threads speak, and print() writes the end of the line apart from the line.
    with _SPEAKING:
        print(*words, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--more-ports", default="", help="of further nodes of the broker's cluster, with commas")
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--pause", type=float, default=0.002)
    parser.add_argument("--keepalive", type=int, default=client.KEEPALIVE_SECONDS)
    parser.add_argument("--offline-after", type=float, default=24.0)
    parser.add_argument("--keep-days", type=float, default=0)
    parser.add_argument("--relay", choices=["real", "twin"], default="real")
    words = parser.parse_args()
    closing = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: closing.set())
    client.KEEPALIVE_SECONDS = words.keepalive
    limits = {"quota_bytes": QUOTA_BYTES, "segment_bytes": SEGMENT_BYTES, "keep_days": words.keep_days}
    journal = Journal.open(words.folder, words.gateway, **limits)
    others = tuple((words.host, int(port)) for port in words.more_ports.split(",") if port)
    broker = BrokerSettings(words.host, words.port, tls=False, others=others)
    relay = Relay(
        journal,
        broker,
        gateway_id=words.gateway,
        site=SITE,
        offline_after_seconds=words.offline_after,
        resend_seconds=1.0,
    )
    if words.relay == "twin":
        spoil(relay, journal)
    relay.start()
    say("boot", journal.boot)
    threading.Thread(target=_watch, args=(relay,), daemon=True).start()
    number = journal.boot * 1_000_000
    while not closing.is_set():
        event = tap(number, boot=journal.boot)
        event.gw = words.gateway
        say("kept", journal.append(event).wait(20), number)
        number += 1
        closing.wait(words.pause)
    head = journal.settle()
    while journal.acked < head:
        time.sleep(_LOOK_SECONDS)
    relay.stop()
    journal.close()
    say("done", head)


def _watch(relay: Relay) -> None:
    before = ""
    while True:
        state = relay.status().link
        if state != before:
            before = state
            say("link", state)
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main()
