"""Everything that can be killed is killed, in random order, while three gateways send: nothing lost, nothing twice."""

from __future__ import annotations

import queue
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.config import BrokerSettings
from gateway.hub.store import tables
from gateway.hub.store.engine import open_store
from gateway.link.client import Arrived, Connected, Link
from gateway.link.messages import Watermark, decode
from gateway.link.topics import GatewayTopics
from tests.hub.conftest import Postgres
from tests.hub.samples import EPOCH, MOSQUITTO, SITE, free_port, message, tap, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto]

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
        self._mosquitto = self._start_broker()
        self.workers = [self._start_worker(number) for number in range(WORKERS)]

    def _start_broker(self) -> subprocess.Popen[bytes]:
        file = self.folder / "mosquitto.conf"
        file.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        return subprocess.Popen([MOSQUITTO, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _start_worker(self, number: int) -> subprocess.Popen[bytes]:
        file = self.folder / f"worker-{number}.toml"
        file.write_text(
            f'[hub]\nstate_dir = "state"\ndatabase = "{self.url}"\nbroker = "mqtt://127.0.0.1:{self.port}"\n'
            f'worker = "hub-{number}"\n[[site]]\nid = "{SITE}"\nsite_key_file = "site.key"\n'
        )
        words = [str(file)] if self.module == TWIN else ["hub", "--config", str(file), "--role", "ingest"]
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", self.module, *words], stdout=log, stderr=log)

    def kill_worker(self, number: int) -> None:
        self.workers[number].kill()
        self.workers[number].wait()
        self.workers[number] = self._start_worker(number)

    def kill_broker(self) -> None:
        self._mosquitto.kill()
        self._mosquitto.wait()
        time.sleep(0.3)
        self._mosquitto = self._start_broker()

    def kill_database(self) -> None:
        assert self.postgres is not None
        self.postgres.kill()
        self.postgres.start()

    def close(self) -> None:
        for process in (*self.workers, self._mosquitto):
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


def _storm(school: School, draw: random.Random, kills: list[str]) -> list[Sender]:
    senders = [Sender(school.broker, name) for name in GATEWAYS]
    for sender in senders:
        sender.start()
    wait_until(lambda: all(sender.upto > 20 for sender in senders), "nothing is committed", 60)
    for victim in kills:
        time.sleep(draw.uniform(0.3, 1.2))
        if victim == "worker":
            school.kill_worker(draw.randrange(WORKERS))
        elif victim == "broker":
            school.kill_broker()
        else:
            school.kill_database()
    for sender in senders:
        sender.closing.set()
    for sender in senders:
        sender.join(90)
        assert not sender.is_alive(), f"{sender.topics.gateway} was acknowledged up to {sender.upto} only"
    return senders


def _lost(school: School, senders: list[Sender]) -> int:
    stored = school.stored()
    return sum(
        stored[sender.topics.gateway].get(seq) != raw for sender in senders for seq, raw in enumerate(sender.raws, 1)
    )


@pytest.mark.timeout(240)
def test_the_harness_catches_a_worker_that_acknowledges_before_it_commits(tmp_path: Path, postgres: Postgres) -> None:
    school = School(tmp_path, postgres, TWIN)
    try:
        senders = _storm(school, random.Random(11), ["worker"] * 5)
        assert _lost(school, senders) > 0
    finally:
        school.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("database", "seed"), [("postgres", 1), ("postgres", 2), ("sqlite", 3)])
def test_nothing_is_lost_or_counted_twice_whatever_is_killed(
    tmp_path: Path, postgres: Postgres, database: str, seed: int
) -> None:
    draw = random.Random(seed)
    kills = ["worker"] * 6 + ["broker"] * 3 + ["database"] * (2 if database == "postgres" else 0)
    draw.shuffle(kills)
    school = School(tmp_path, postgres if database == "postgres" else None, REAL)
    try:
        senders = _storm(school, draw, kills)
        assert _lost(school, senders) == 0
        stored = school.stored()
        for sender in senders:
            assert len(stored[sender.topics.gateway]) == len(sender.raws) > 300
    finally:
        school.close()
