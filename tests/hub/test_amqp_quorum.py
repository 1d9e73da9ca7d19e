"""The AMQP engine against a real RabbitMQ.

Debian's RabbitMQ speaks MQTT 3.1.1 only, so the sending end is a plain paho client of that version, and the watermarks,
which go out over MQTT 5, take a mosquitto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pika
import pytest
from sqlalchemy import func, select

from gateway.config import BrokerSettings
from gateway.hub.ingest.amqp_quorum import QUEUES, AmqpQuorum, binding_of
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.link.topics import ALL_TAPS, GatewayTopics
from tests.hub.rabbits import Rabbit, Sender, missing_rabbit
from tests.hub.samples import SITE, mosquitto, tap, wait_until
from tests.hub.test_fleet import Listener
from tests.hub.test_mqtt_share import Away

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("rabbitmq"),
    pytest.mark.skipif(missing_rabbit(), reason="RabbitMQ is not installed"),
]


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    node = Rabbit(tmp_path_factory.mktemp("rabbit"))
    node.start()
    yield node
    node.close()


@pytest.fixture
def marks(tmp_path: Path) -> Iterator[BrokerSettings]:
    with mosquitto(tmp_path) as (settings, _):
        yield settings


def _count(store: Store, gateway: str) -> int:
    event, owner = tables.event, tables.gateway
    with store.read() as connection:
        wanted = select(func.count()).select_from(event.join(owner)).where(owner.c.name == gateway)
        return connection.scalar(wanted) or 0


def _started(rabbit: Rabbit, marks: BrokerSettings, committer: Committer, **options: object) -> AmqpQuorum:
    worker = AmqpQuorum(rabbit.url, marks, "hub-0", committer, **options)  # type: ignore[arg-type]
    worker.start()
    wait_until(lambda: worker.connected, "the worker does not connect", 60)
    return worker


def test_filters_become_bindings() -> None:
    assert binding_of(ALL_TAPS) == "tapgate.v1.*.*.taps"


def test_taps_published_by_mqtt_are_committed_and_the_watermark_goes_out(
    rabbit: Rabbit, marks: BrokerSettings, store: Store
) -> None:
    gateway = "gw-amqp-1"
    told: list[Committed] = []
    worker = _started(rabbit, marks, Committer(store), on_commit=told.append)
    listener = Listener(marks, [GatewayTopics(SITE, gateway).ack])
    sender = Sender(rabbit)
    for seq in range(1, 101):
        sender.send(tap(seq, gateway=gateway), last="backlog" if seq % 2 else "taps", gateway=gateway)
    wait_until(lambda: _count(store, gateway) == 100, "not everything was committed")
    listener.wait(GatewayTopics(SITE, gateway).ack, lambda payload: b'"upto":100' in payload)
    assert sum(done.fresh for done in told) == 100
    sender.close()
    worker.stop()


def test_the_watermark_goes_out_by_another_node_when_the_first_is_dead(
    rabbit: Rabbit, tmp_path: Path, store: Store
) -> None:
    gateway = "gw-amqp-5"
    ack = GatewayTopics(SITE, gateway).ack
    with mosquitto(tmp_path) as (first, process), mosquitto(tmp_path) as (second, _):
        worker = _started(rabbit, replace(first, others=second.places), Committer(store))
        before = Listener(first, [ack])
        sender = Sender(rabbit)
        sender.send(tap(1, gateway=gateway), gateway=gateway)
        before.wait(ack, lambda payload: b'"upto":1' in payload)
        process.kill()
        wait_until(lambda: not worker.connected, "the dead node is still believed")
        sender.send(tap(2, gateway=gateway), gateway=gateway)
        wait_until(lambda: _count(store, gateway) == 2, "taps are not committed while the marks have no way")
        Listener(second, [ack]).wait(ack, lambda payload: b'"upto":2' in payload)
        sender.close()
        worker.stop()


def test_a_worker_that_goes_before_its_commit_leaves_everything_to_the_next(
    rabbit: Rabbit, marks: BrokerSettings, store: Store
) -> None:
    gateway = "gw-amqp-2"
    committer = Away(store)
    committer.away.set()
    first = _started(rabbit, marks, committer)
    sender = Sender(rabbit)
    for seq in range(1, 51):
        sender.send(tap(seq, gateway=gateway), gateway=gateway)
    wait_until(lambda: committer.tries >= 1, "nothing came")
    first.stop()
    assert _count(store, gateway) == 0
    second = _started(rabbit, marks, Committer(store))
    wait_until(lambda: _count(store, gateway) == 50, "what was not acknowledged did not come again")
    sender.close()
    second.stop()


def test_a_worker_whose_queue_is_taken_away_makes_it_again(rabbit: Rabbit, marks: BrokerSettings, store: Store) -> None:
    gateway = "gw-amqp-4"
    worker = _started(rabbit, marks, Committer(store))
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        connection.channel().queue_delete(QUEUES["live"][0])
    wait_until(lambda: not worker.connected, "the worker did not notice")
    wait_until(lambda: worker.connected, "the worker does not come back")
    sender = Sender(rabbit)
    for seq in range(1, 11):
        sender.send(tap(seq, gateway=gateway), gateway=gateway)
    wait_until(lambda: _count(store, gateway) == 10, "the worker takes nothing any more")
    sender.close()
    worker.stop()


def test_what_the_queue_confirmed_survives_the_death_of_its_node(
    rabbit: Rabbit, marks: BrokerSettings, store: Store
) -> None:
    gateway = "gw-amqp-3"
    worker = _started(rabbit, marks, Committer(store))
    worker.stop()
    sender = Sender(rabbit)
    for seq in range(1, 201):
        sender.send(tap(seq, gateway=gateway), gateway=gateway)
    rabbit.kill()
    sender.close()
    waiting = AmqpQuorum(rabbit.url, marks, "hub-0", Committer(store))
    waiting.start()
    rabbit.start()
    wait_until(lambda: _count(store, gateway) == 200, "the queue did not keep what it confirmed", 60)
    waiting.stop()
