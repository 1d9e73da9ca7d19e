"""Three RabbitMQ nodes lose one while taps come in: the quorum queue keeps what it confirmed, the workers fail over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from sqlalchemy import select

from gateway.access.event import decode_event
from gateway.hub.ingest.amqp_quorum import EXCHANGE, QUEUES, AmqpQuorum, binding_of
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.link.topics import ALL_TAPS
from tests.hub.rabbits import Cluster, Rabbit, Sender, missing_rabbit, started_cluster
from tests.hub.samples import mosquitto, tap, wait_until

TAPS = 600
SILENT = 100
TWIN_QUEUE = "twin.live"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("rabbitmq"),
    pytest.mark.skipif(missing_rabbit(), reason="RabbitMQ is not installed"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    nodes = started_cluster(tmp_path)
    try:
        yield nodes
    finally:
        nodes.close()


def _declare_twin(node: Rabbit) -> None:
    # The queue that a plain installation has: durable, but on the one node where it was declared.
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        channel = connection.channel()
        channel.queue_declare(TWIN_QUEUE, durable=True)
        channel.queue_bind(TWIN_QUEUE, EXCHANGE, binding_of(ALL_TAPS))


def _leave_twin_as_it_is(node: Rabbit) -> None:
    # RabbitMQ 4 confirms nothing that is bound for a queue on a dead node.
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        connection.channel().queue_unbind(TWIN_QUEUE, EXCHANGE, binding_of(ALL_TAPS))


def _twin_gives(node: Rabbit) -> int:
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        channel = connection.channel()
        try:
            return int(channel.queue_declare(TWIN_QUEUE, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker:
            return 0


def _members_online(node: Rabbit) -> bool:
    told = node.ask("rabbitmqctl", "list_queues", "--silent", "name", "online")
    rows = [line.split("\t") for line in told.splitlines()]
    wanted = {name for name, _ in QUEUES.values()}
    return {row[0] for row in rows if len(row) == 2 and row[1].count("@") == 3} >= wanted


class Rows:
    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> list[str]:
        with self._store.read() as connection:
            return [str(decode_event(bytes(raw)).person) for raw in connection.scalars(select(tables.event.c.raw))]


def _person(seq: int) -> str:
    return f"p_{seq:016x}"


def _publish(nodes: list[Rabbit], first: int, last: int) -> int:
    """Send taps one by one, each until some node confirms it; returns how many had to be sent again."""
    again, at = 0, 0
    sender = Sender(nodes[at])
    for seq in range(first, last + 1):
        while not sender.send(tap(seq, person=_person(seq))):
            again += 1
            sender.close()
            at += 1
            sender = Sender(nodes[at])
    sender.close()
    return again


def test_a_dead_node_loses_nothing_that_the_quorum_confirmed_and_the_workers_fail_over(
    cluster: Cluster, tmp_path: Path, store: Store
) -> None:
    first, *others = cluster.nodes
    told: list[Committed] = []
    with mosquitto(tmp_path) as (marks, _):
        # The first worker hangs on the node that will die, the second on one that stays.
        workers = [
            AmqpQuorum(cluster.urls(number), marks, f"hub-{number}", Committer(store), on_commit=told.append)
            for number in (0, 1)
        ]
        for worker in workers:
            worker.start()
        wait_until(lambda: all(worker.connected for worker in workers), "the workers do not connect", 60)
        wait_until(lambda: _members_online(first), "the queues do not stand on three nodes", 30)

        # Nobody takes these from either queue before the node dies.
        for worker in workers:
            worker.stop()
        _declare_twin(first)
        assert _publish(cluster.nodes, 1, SILENT) == 0
        assert _twin_gives(others[0]) == SILENT
        _leave_twin_as_it_is(first)

        workers = [
            AmqpQuorum(cluster.urls(number), marks, f"hub-{number}", Committer(store), on_commit=told.append)
            for number in (0, 1)
        ]
        again: list[int] = []
        publisher = threading.Thread(target=lambda: again.append(_publish(cluster.nodes, SILENT + 1, TAPS)))
        for worker in workers:
            worker.start()
        publisher.start()
        rows = Rows(store)
        wait_until(lambda: len(rows.read()) > SILENT + 100, "nothing is committed", 60)
        first.kill()
        assert publisher.is_alive(), "the node did not die in the middle"
        assert _twin_gives(others[0]) == 0, "a queue on the dead node still answers: this kill proves nothing"
        publisher.join(60)
        assert not publisher.is_alive()
        wait_until(lambda: len(set(rows.read())) == TAPS, "the queue did not keep what it confirmed", 60)
        wait_until(lambda: all(worker.connected for worker in workers), "a worker did not fail over", 30)
        for worker in workers:
            worker.stop()
    found = rows.read()
    assert sorted(found) == [_person(seq) for seq in range(1, TAPS + 1)]
    assert again[0] >= 1
    assert sum(done.quarantined for done in told) == 0
