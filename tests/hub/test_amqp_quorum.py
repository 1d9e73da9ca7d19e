"""The AMQP engine against a real RabbitMQ.

Debian's RabbitMQ speaks MQTT 3.1.1 only, so the sending end is a plain paho client of that version, and the watermarks,
which go out over MQTT 5, take a mosquitto.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import func, select

from gateway.config import BrokerSettings
from gateway.hub.ingest.amqp_quorum import AmqpQuorum, binding_of
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.link.topics import ALL_TAPS, GatewayTopics
from tests.hub.samples import GATEWAY, SITE, free_port, message, mosquitto, tap, wait_until
from tests.hub.test_fleet import Listener
from tests.hub.test_mqtt_share import Away

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
EPMD = shutil.which("epmd")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mosquitto,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not SERVER.exists() or EPMD is None, reason="RabbitMQ is not installed"),
]


class Rabbit:
    """One RabbitMQ node on loopback with everything it writes in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.amqp_port, self.mqtt_port, self.epmd_port, dist = (free_port() for _ in range(4))
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.amqp_port}\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.mqtt_port}\n"
        )
        (folder / "plugins").write_text("[rabbitmq_mqtt].")
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tapgate{self.amqp_port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/%2F?heartbeat=10"

    def start(self) -> None:
        # `exec` in its scripts makes the Erlang machine this very process.
        self.process = subprocess.Popen(
            [str(SERVER)],
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._speaks_mqtt, "RabbitMQ does not start", 90)

    def _speaks_mqtt(self) -> bool:
        client = _client("probe")
        try:
            answered = client.connect("127.0.0.1", self.mqtt_port) == paho.MQTT_ERR_SUCCESS
            return answered and client.loop(0.5) == paho.MQTT_ERR_SUCCESS and client.is_connected()
        except OSError:
            return False
        finally:
            client.disconnect()

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, 9)
        self.process.wait()

    def close(self) -> None:
        self.kill()
        assert EPMD is not None
        # It refuses to go while it still believes the node to be there.
        stop = [EPMD, "-port", str(self.epmd_port), "-kill"]
        wait_until(lambda: b"Killed" in _answer(stop), "epmd stays")


def _answer(command: list[str]) -> bytes:
    return subprocess.run(command, check=False, capture_output=True, timeout=10).stdout


def _client(name: str) -> paho.Client:
    return paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311)


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


class Sender:
    def __init__(self, rabbit: Rabbit) -> None:
        self.client = _client("a-gateway")
        self.client.connect("127.0.0.1", rabbit.mqtt_port)
        self.client.loop_start()
        wait_until(self.client.is_connected, "no MQTT connection to RabbitMQ")

    def send(self, *events: bytes, last: str = "taps", gateway: str = GATEWAY) -> None:
        sent = message(*events, last=last, gateway=gateway)
        self.client.publish(sent.topic, sent.payload, qos=1).wait_for_publish(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


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
