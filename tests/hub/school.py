"""A school that can be killed: broker, PostgreSQL and ingest workers, with gateways that send by the book.

Shared by the fault harnesses of the hub.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from sqlalchemy import select

from gateway.config import BrokerSettings
from gateway.hub.store import tables
from gateway.hub.store.engine import open_store
from gateway.link.client import Arrived, Connected, Link
from gateway.link.messages import Watermark, decode
from gateway.link.topics import GatewayTopics
from tests.hub.conftest import Postgres
from tests.hub.samples import EPOCH, MOSQUITTO, SITE, free_port, message, tap

GATEWAYS = ("gw-canteen", "gw-gate", "gw-library")
WORKERS = 3
SILENCE_SECONDS = 0.7
PAUSE_SECONDS = 0.01
REAL = "gateway"
TWIN = "tests.hub.broken_twin"


class Sender(threading.Thread):
    """A gateway's relay, by the book: keeps every event until a watermark covers it, sends again after silence."""

    def __init__(self, broker: BrokerSettings, name: str) -> None:
        super().__init__(daemon=True)
        self.topics = GatewayTopics(SITE, name)
        self.raws: list[bytes] = []
        self.upto = 0
        self.closing = threading.Event()
        self._have: list[tuple[int, int]] = []
        self._sent = 0
        self._moved_at = time.monotonic()
        self._link = Link(broker, f"{name}-relay", session_expiry_seconds=0)

    def run(self) -> None:
        self._link.start()
        while not (self.closing.is_set() and self.upto >= len(self.raws)):
            self._listen()
            if not self.closing.is_set():
                seq = len(self.raws) + 1
                self.raws.append(tap(seq, gateway=self.topics.gateway))
            self._send()
            time.sleep(PAUSE_SECONDS)
        self._link.close()

    def _listen(self) -> None:
        try:
            while True:
                item = self._link.inbox.get_nowait()
                if isinstance(item, Connected):
                    self._link.subscribe([self.topics.ack])
                    self._sent = self.upto
                elif isinstance(item, Arrived):
                    mark = decode(item.payload, Watermark)
                    if mark.epoch == EPOCH:
                        self._have = mark.have
                        if mark.upto > self.upto:
                            # Only this counts as progress: what is held above a gap does not close the gap.
                            self.upto, self._moved_at = mark.upto, time.monotonic()
        except queue.Empty:
            pass

    def _send(self) -> None:
        if time.monotonic() - self._moved_at > SILENCE_SECONDS and self.upto < self._sent:
            self._sent, self._moved_at = self.upto, time.monotonic()
        wanted = [
            seq
            for seq in range(max(self._sent, self.upto) + 1, len(self.raws) + 1)
            if not any(first <= seq <= last for first, last in self._have)
        ][:50]
        if not wanted:
            return
        last = "backlog" if len(wanted) > 5 else "taps"
        sent = message(*(self.raws[seq - 1] for seq in wanted), last=last, gateway=self.topics.gateway)
        if self._link.publish(sent.topic, sent.payload) is not None:
            self._sent = wanted[-1]


class School:
    """Broker without persistence, PostgreSQL and workers, each of which can be killed and comes back."""

    def __init__(self, folder: Path, postgres: Postgres | None, module: str) -> None:
        self.folder, self.postgres, self.module = folder, postgres, module
        self.port = free_port()
        self.broker = BrokerSettings("127.0.0.1", self.port, tls=False)
        self.url = postgres.new_database() if postgres else "sqlite:///hub.db"
        (folder / "site.key").write_text(bytes(range(32)).hex())
        self.start_broker()
        self.workers: list[subprocess.Popen[bytes]] = []
        for number in range(WORKERS):
            self.start_worker(number)

    def start_broker(self) -> None:
        file = self.folder / "mosquitto.conf"
        file.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        command = [MOSQUITTO, "-c", str(file)]
        self.mosquitto = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start_worker(self, number: int) -> None:
        file = self.folder / f"worker-{number}.toml"
        file.write_text(
            f'[hub]\nstate_dir = "state"\ndatabase = "{self.url}"\nbroker = "mqtt://127.0.0.1:{self.port}"\n'
            f'worker = "hub-{number}"\n[[site]]\nid = "{SITE}"\nsite_key_file = "site.key"\ntrust_unenrolled = true\n'
        )
        words = [str(file)] if self.module == TWIN else ["hub", "--config", str(file), "--role", "ingest"]
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", self.module, *words], stdout=log, stderr=log)
        self.workers[number : number + 1] = [process]

    def kill_worker(self, number: int) -> None:
        self.workers[number].kill()
        self.workers[number].wait()
        self.start_worker(number)

    def kill_broker(self) -> None:
        self.mosquitto.kill()
        self.mosquitto.wait()
        time.sleep(0.3)
        self.start_broker()

    def kill_database(self) -> None:
        assert self.postgres is not None
        self.postgres.kill()
        self.postgres.start()

    def close(self) -> None:
        for process in (*self.workers, self.mosquitto):
            process.kill()
            process.wait()

    def stored(self) -> dict[str, dict[int, bytes]]:
        store = open_store(self.url, self.folder / "state")
        event, gateway = tables.event, tables.gateway
        found: dict[str, dict[int, bytes]] = {name: {} for name in GATEWAYS}
        with store.read() as connection:
            wanted = select(gateway.c.name, event.c.seq, event.c.raw).join_from(event, gateway)
            rows = connection.execute(wanted).all()
        for name, seq, raw in rows:
            assert seq not in found[name], f"{name} has event {seq} twice"
            found[name][seq] = bytes(raw)
        store.close()
        return found


def lost(school: School, senders: list[Sender]) -> int:
    """Count the events that are not stored with their own bytes."""
    stored = school.stored()
    return sum(
        stored[sender.topics.gateway].get(seq) != raw for sender in senders for seq, raw in enumerate(sender.raws, 1)
    )
