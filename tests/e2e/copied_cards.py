"""Machines with cards that are copied, restored and swapped, one hub, and between them a broker in a few lines.

Journal, relay, committer and the fleet's judgement are the real ones; only sockets, threads and clocks are replaced, so
that a model may order every step.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from gateway.config import BrokerSettings
from gateway.edge import relay as relay_module
from gateway.edge.relay import Relay
from gateway.hub.fleet import service as service_module
from gateway.hub.fleet.asking import Asking
from gateway.hub.fleet.service import FleetService
from gateway.hub.ingest.commit import Committer
from gateway.hub.ingest.parse import Incoming
from gateway.hub.store import tables
from gateway.hub.store.engine import open_store
from gateway.journal.journal import Journal
from gateway.link.client import Arrived, Connected, Disconnected, Published
from gateway.link.messages import HubState, Signed, encode
from gateway.link.topics import HUB_STATE, GatewayTopics
from gateway.roster.signing import Signer, Trust
from tests.hub.samples import GATEWAY, SITE, add_site
from tests.journal.journals import tap

SITE_KEY = bytes(range(32))
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
TOPICS = GatewayTopics(SITE, GATEWAY)
NOWHERE = BrokerSettings("127.0.0.1", 1, tls=False)
READY = encode(HubState("ready", Signed("{}", "")))
QUIET_MS = 180_000


def copy_database(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as reading, contextlib.closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)


class Wire:
    """Stands in for a Link: what is published waits until the broker carries it."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.sent: list[tuple[str, bytes, int]] = []
        self.connected = False
        self._mid = 0

    def publish(self, topic: str, payload: bytes, **_options: Any) -> int | None:
        if not self.connected:
            return None
        self._mid += 1
        self.sent.append((topic, payload, self._mid))
        return self._mid

    def subscribe(self, topics: list[str]) -> None: ...

    def be_patient(self, patient: bool) -> None: ...


class Clock:
    """Seconds that pass only when a step says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def ms(self) -> int:
        return 1_795_334_400_000 + round(self.now * 1000)


class Machine:
    """A board with a card; `taps` are the numbers of those that its journal confirmed since the board was made."""

    def __init__(self, card: Path, clock: Clock, board: str) -> None:
        self.card, self.clock, self.board = card, clock, board
        self.journal: Journal | None = None
        self.relay: Relay | None = None

    @property
    def is_on(self) -> bool:
        return self.journal is not None

    def start(self) -> None:
        self.journal = Journal.open(self.card, GATEWAY, segment_bytes=16 << 10, keep_days=7)
        self.relay = Relay(
            self.journal, NOWHERE, gateway_id=GATEWAY, site=SITE, trust=Trust(SITE_KEY), resend_seconds=0.0
        )
        self.relay._standing.monotonic = lambda: self.clock.now
        self.relay._standing.board = self.board
        self.relay._standing.keep()
        self.journal.subscribe(self.relay._on_event)

    def stop(self) -> None:
        if self.journal is not None:
            self.disconnect()
            self.journal.close()
            self.journal = self.relay = None

    def tap(self, number: int) -> None:
        assert self.journal is not None
        self.journal.append(tap(number, boot=self.journal.boot)).wait(5)

    @property
    def wire(self) -> Wire:
        assert self.relay is not None
        wire = self.relay._link
        assert isinstance(wire, Wire)
        return wire

    def connect(self) -> None:
        assert self.relay is not None
        self.wire.connected = True
        self.relay._take(Connected(1, session_present=False))

    def disconnect(self) -> None:
        assert self.relay is not None
        if self.wire.connected:
            self.wire.connected = False
            self.wire.sent.clear()
            self.relay._take(Disconnected("the broker is away"))

    def receive(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        assert self.relay is not None
        self.relay._take(Arrived(topic, payload, retained, 1, 1, 1))

    def receive_all(self, mid: int | None, messages: list[tuple[str, bytes]]) -> None:
        """Take in the broker's confirmation of one message and what the hub sent."""
        assert self.relay is not None
        if mid is not None:
            self.relay._take(Published(mid, None))
        for topic, payload in messages:
            if topic in {TOPICS.ack, TOPICS.command}:
                self.receive(topic, payload)

    def turn(self) -> list[tuple[str, bytes, int]]:
        """Let the relay do what it does when it wakes up; return what it sent."""
        assert self.relay is not None
        assert self.journal is not None
        self.journal.settle()
        while not self.relay._inbox.empty():
            self.relay._take(self.relay._inbox.get())
        if self.relay._standing.wants_birth():
            self.relay._birth()
        self.relay._pump()
        sent, self.wire.sent = self.wire.sent, []
        return sent


@dataclass
class World:
    """Every machine, the hub's database, and what the broker retains."""

    folder: Path
    blank: Path
    clock: Clock = field(default_factory=Clock)
    machines: list[Machine] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    tapped: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open_hub(self.blank)
        self.add(self.folder / "card-0")

    def open_hub(self, database: Path) -> None:
        shutil.copyfile(database, self.folder / "hub.db")
        for rest in ("hub.db-wal", "hub.db-shm"):
            (self.folder / rest).unlink(missing_ok=True)
        self.store = open_store("sqlite:///hub.db", self.folder)
        self.committer = Committer(self.store)
        asking = Asking(hole_seconds=0, ask_again_seconds=0)
        self.fleet = FleetService(NOWHERE, "hub-0", self.store, SIGNER, asking=asking, twin_quiet_ms=QUIET_MS)
        self.hub_wire = Wire()
        self.hub_wire.connected = True
        service_module.now_ms = self.clock.ms

    def back_up_hub(self, copy: Path) -> None:
        copy_database(self.folder / "hub.db", copy)

    def restore_hub(self, copy: Path) -> None:
        self.store.close()
        self.open_hub(copy)

    def close(self) -> None:
        for machine in self.machines:
            machine.stop()
        self.store.close()

    def add(self, card: Path) -> Machine:
        machine = Machine(card, self.clock, f"board-{len(self.machines)}")
        self.machines.append(machine)
        return machine

    def copy(self, source: Machine) -> Machine:
        """Copy a card, in use or not, into a further board."""
        card = self.folder / f"card-{len(self.machines)}"
        if source.journal is not None:
            source.journal.settle()
        shutil.copytree(source.card, card)
        return self.add(card)

    def tap(self, machine: Machine) -> None:
        number = len(self.tapped) + 1
        machine.tap(number)
        self.tapped.append(number)

    def online(self, machine: Machine, messages: int = 10_000, seconds: float = 1.0) -> None:
        """Connect one machine, which throws out any other, carry some messages, and cut it off after the last."""
        for other in self.machines:
            if other is not machine and other.is_on:
                other.disconnect()
        if not machine.wire.connected:
            machine.connect()
            for topic in (HUB_STATE, TOPICS.ack):
                payload = READY if topic == HUB_STATE else self.retained.get(topic)
                if payload is not None:
                    machine.receive(topic, payload, retained=True)
        still = 0
        while messages > 0 and still < 2:
            self.clock.now += seconds
            sent = machine.turn()
            still = 0 if sent else still + 1
            for topic, payload, mid in sent:
                if messages <= 0:
                    break
                messages -= 1
                self._at_hub(topic, payload)
                answers = self._from_hub()
                if messages > 0:
                    # The answer to the last one before the cut is lost on its way.
                    machine.receive_all(mid, answers)
            machine.receive_all(None, self._ask())
        if messages <= 0:
            machine.disconnect()

    def _at_hub(self, topic: str, payload: bytes) -> None:
        if topic == TOPICS.state:
            self.fleet._on_state(self.hub_wire, Arrived(topic, payload, False, 1, 1, 1))  # type: ignore[arg-type]
        elif topic == TOPICS.reply:
            self.fleet._on_reply(Arrived(topic, payload, False, 1, 1, 1))
        else:
            done = self.committer.commit([Incoming(topic, payload, self.clock.ms())])
            for topics, mark in done.watermarks:
                self.hub_wire.publish(topics.ack, encode(mark))

    def _ask(self) -> list[tuple[str, bytes]]:
        self.fleet._asked_at = -1e9
        self.fleet._ask(self.hub_wire)  # type: ignore[arg-type]
        return self._from_hub()

    def _from_hub(self) -> list[tuple[str, bytes]]:
        sent, self.hub_wire.sent = [(topic, payload) for topic, payload, _ in self.hub_wire.sent], []
        self.retained.update((topic, payload) for topic, payload in sent if topic == TOPICS.ack)
        return sent

    def drain(self) -> None:
        """Let each machine have the broker for itself until it has nothing to say: the others were switched off."""
        for machine in self.machines:
            machine.stop()
        for _ in range(2):
            for machine in self.machines:
                machine.start()
                self.clock.now += 2 * QUIET_MS / 1000
                for _ in range(6):
                    self.online(machine, seconds=QUIET_MS / 3000)
                machine.stop()

    def counted(self) -> list[int]:
        """Return the numbers of the taps that the hub holds, with those it holds twice."""
        event = tables.event
        with self.store.read() as connection:
            persons = connection.scalars(select(event.c.person).where(event.c.kind == "tap")).all()
        return sorted(int(str(person).removeprefix("p_"), 16) for person in persons)

    def alarm(self) -> str | None:
        with self.store.read() as connection:
            return connection.scalar(select(tables.gateway.c.alarm))


@pytest.fixture(scope="module")
def blank_hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a migrated database with one site, to be copied for each world."""
    folder = tmp_path_factory.mktemp("blank")
    (folder / "site.key").write_text(SITE_KEY.hex())
    store = open_store("sqlite:///hub.db", folder)
    store.migrate()
    add_site(store, folder / "site.key")
    store.close()
    copy_database(folder / "hub.db", folder / "blank.db")
    return folder / "blank.db"


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "Link", Wire)
    monkeypatch.setattr(relay_module, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(service_module, "now_ms", service_module.now_ms)
