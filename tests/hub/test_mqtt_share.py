from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway.config import BrokerSettings
from gateway.errors import StoreUnavailable
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.ingest.mqtt_share import MqttShare
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.link.client import Arrived, Connected, Link, Published
from gateway.link.messages import Watermark, decode
from gateway.link.topics import GatewayTopics
from tests.hub.samples import EPOCH, GATEWAY, SITE, message, mosquitto, tap, wait_until

TOPICS = GatewayTopics(SITE, GATEWAY)

pytestmark = pytest.mark.mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerSettings]:
    with mosquitto(tmp_path) as (settings, _):
        yield settings


class Gateway:
    """The sending end: publishes and remembers the newest watermark."""

    def __init__(self, broker: BrokerSettings) -> None:
        self.link = Link(broker, "a-gateway", session_expiry_seconds=0)
        self.mark: Watermark | None = None
        self.unconfirmed: set[int] = set()
        self.link.start()
        wait_until(lambda: self._turn() or self.link.connected, "no connection")

    def _turn(self) -> None:
        try:
            while True:
                item = self.link.inbox.get_nowait()
                if isinstance(item, Connected):
                    self.link.subscribe([TOPICS.ack])
                elif isinstance(item, Arrived):
                    self.mark = decode(item.payload, Watermark)
                elif isinstance(item, Published):
                    self.unconfirmed.discard(item.mid)
        except queue.Empty:
            return

    def upto(self) -> int:
        self._turn()
        return self.mark.upto if self.mark else 0

    def send(self, *events: bytes, last: str = "taps") -> None:
        sent = message(*events, last=last)
        mid: int | None = None

        def published() -> bool:
            nonlocal mid
            mid = self.link.publish(sent.topic, sent.payload)
            return mid is not None

        wait_until(published, "not connected")
        assert mid is not None
        self.unconfirmed.add(mid)

    def all_confirmed(self) -> bool:
        self._turn()
        return not self.unconfirmed


def _count(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(tables.event)) or 0


def _started(worker: MqttShare) -> MqttShare:
    worker.start()
    wait_until(lambda: worker.connected and worker.takes_share, "the worker does not connect")
    return worker


def _first_session(broker: BrokerSettings, store: Store) -> None:
    # What is published before any worker ever subscribed belongs to nobody; gateways send it again.
    worker = _started(MqttShare(broker, "hub-0", Committer(store)))
    gateway = Gateway(broker)

    def arrived() -> bool:
        gateway.send(tap(1))
        return gateway.upto() == 1

    wait_until(arrived, "the worker commits nothing")
    worker.stop()
    gateway.link.close()


def _reach(gateway: Gateway, seq: int, store: Store) -> None:
    """Send one tap until it is committed: a worker takes its share a moment before the broker knows it."""

    def arrived() -> bool:
        gateway.send(tap(seq))
        with store.read() as connection:
            return connection.scalar(select(tables.event.c.seq).where(tables.event.c.seq == seq)) is not None

    wait_until(arrived, "the broker does not know the worker")


def test_taps_and_backlog_are_committed_and_the_watermark_comes_back(broker: BrokerSettings, store: Store) -> None:
    _first_session(broker, store)
    told: list[Committed] = []
    worker = _started(MqttShare(broker, "hub-0", Committer(store), on_commit=told.append))
    gateway = Gateway(broker)
    for seq in range(2, 302):
        gateway.send(tap(seq), last="backlog" if seq % 2 else "taps")
    wait_until(lambda: gateway.upto() == 301, "the watermark does not reach the last event")
    assert _count(store) == 301
    assert sum(done.fresh for done in told) == 300
    worker.stop()
    gateway.link.close()


def test_what_comes_while_no_worker_runs_is_sent_again_by_its_gateway(broker: BrokerSettings, store: Store) -> None:
    # A session that waited would also go on taking its share of what the other workers could have.
    _first_session(broker, store)
    gateway = Gateway(broker)
    for seq in range(2, 52):
        gateway.send(tap(seq))
    # The last of them may otherwise reach the broker only after the worker has come.
    wait_until(gateway.all_confirmed, "the broker does not take the taps")
    worker = _started(MqttShare(broker, "hub-0", Committer(store)))
    assert _count(store) == 1
    _reach(gateway, 51, store)
    for seq in range(2, 51):
        gateway.send(tap(seq))
    wait_until(lambda: gateway.upto() == 51, "what was sent again did not come")
    worker.stop()
    gateway.link.close()


class Away(Committer):
    """A committer whose database is away until told otherwise."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.away = threading.Event()
        self.tries = 0

    def commit(self, batch: object) -> Committed:
        if self.away.is_set():
            self.tries += 1
            raise StoreUnavailable("The database is away.")
        return super().commit(batch)  # type: ignore[arg-type]


def test_while_the_database_is_away_nothing_is_acknowledged_and_nothing_lost(
    broker: BrokerSettings, store: Store
) -> None:
    _first_session(broker, store)
    committer = Away(store)
    committer.away.set()
    worker = _started(MqttShare(broker, "hub-0", committer))
    gateway = Gateway(broker)
    wait_until(lambda: gateway.upto() == 1, "the retained watermark does not come")
    for seq in range(2, 202):
        gateway.send(tap(seq))
    wait_until(lambda: committer.tries >= 2, "the worker does not try again")
    assert gateway.upto() == 1
    assert _count(store) == 1
    committer.away.clear()
    wait_until(lambda: gateway.upto() == 201, "the worker does not recover")
    worker.stop()
    gateway.link.close()


class SaysFirst(Away):
    """The broken twin: says that it committed although the database is away."""

    def commit(self, batch: object) -> Committed:
        if not self.away.is_set():
            return super().commit(batch)
        return Committed(watermarks=[(TOPICS, Watermark(EPOCH, 51))])


@pytest.mark.parametrize(("twin", "kept"), [(Away, True), (SaysFirst, False)])
def test_a_worker_that_dies_before_its_commit_loses_nothing_and_the_check_sees_one_that_spoke_first(
    broker: BrokerSettings, store: Store, twin: type[Away], kept: bool
) -> None:
    _first_session(broker, store)
    committer = twin(store)
    committer.away.set()
    worker = _started(MqttShare(broker, "hub-0", committer))
    gateway = Gateway(broker)
    wait_until(lambda: gateway.upto() == 1, "the retained watermark does not come")
    for seq in range(2, 52):
        gateway.send(tap(seq))
    if kept:
        wait_until(lambda: committer.tries >= 1, "nothing came")
    else:
        wait_until(lambda: gateway.upto() == 51, "the twin says nothing")
    worker.stop()
    healthy = _started(MqttShare(broker, "hub-0", Committer(store)))
    missing = range(gateway.upto() + 1, 52)
    _reach(gateway, 52, store)
    for seq in missing:
        gateway.send(tap(seq))
    wait_until(lambda: _count(store) >= 2 + 50 * kept, "what was sent again does not come")
    assert (_count(store) == 52) is kept
    healthy.stop()
    gateway.link.close()
