"""RabbitMQ 3.13 or later as the only broker: gateways, hub and watermarks on one cluster of three that loses its nodes.

Debian 12 has RabbitMQ 3.10, which has no MQTT 5; these tests need the one of Debian 13 (see TAPGATE_RABBITMQ_SERVER).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.errors import StoreUnavailable
from gateway.hub.store import tables
from gateway.hub.store.engine import open_store
from tests.edge.gateway_process import GatewayProcess
from tests.hub.rabbits import Cluster, rabbit_version, started_cluster
from tests.hub.samples import SITE, wait_until

GATEWAYS = ("gw-canteen", "gw-door")

# The queue type that a client's session gets: a quorum lives on with any node, a classic queue is gone with its own.
QUORUM_SESSIONS = "mqtt.durable_queue_type = quorum"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("rabbitmq"),
]


@pytest.fixture(params=[(QUORUM_SESSIONS,), ()], ids=["quorum sessions", "plain sessions"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    if rabbit_version() < (3, 13):
        pytest.skip("RabbitMQ with MQTT 5 is not installed")
    nodes = started_cluster(tmp_path, *request.param)
    yield nodes
    nodes.close()


class Hub:
    """The whole hub as its own process."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        (folder / "site.key").write_text(bytes(range(32)).hex())
        nodes = ",".join(f"127.0.0.1:{node.mqtt_port}" for node in cluster.nodes)
        self.file = folder / "hub.toml"
        self.file.write_text(
            f'[hub]\nstate_dir = "state"\nbroker = "mqtt://{nodes}"\ningest = "amqp-quorum"\n'
            f'amqp_url = "{cluster.urls()}"\n[[site]]\nid = "{SITE}"\nsite_key_file = "site.key"\n'
            "trust_unenrolled = true\n"
        )
        self._log = (folder / "hub.log").open("wb")
        words = [sys.executable, "-m", "gateway", "hub", "--config", str(self.file)]
        self.process = subprocess.Popen(words, stdout=self._log, stderr=self._log)

    def rows(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for name in GATEWAYS}
        store = open_store("sqlite:///hub.db", self.folder / "state")
        event, gateway = tables.event, tables.gateway
        with contextlib.suppress(StoreUnavailable), store.read() as connection:
            for name, seq in connection.execute(select(gateway.c.name, event.c.seq).join_from(event, gateway)):
                found[name].append(seq)
        store.close()
        return found

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._log.close()


@pytest.fixture
def hub(tmp_path: Path, cluster: Cluster) -> Iterator[Hub]:
    hub = Hub(tmp_path, cluster)
    yield hub
    hub.close()


@pytest.fixture
def gateways(tmp_path: Path, cluster: Cluster) -> Iterator[list[GatewayProcess]]:
    """Two gateways that tap all the time, each with another node as its first."""
    processes = []
    for number, name in enumerate(GATEWAYS):
        first, *others = [node.mqtt_port for node in cluster.nodes[number:] + cluster.nodes[:number]]
        more = ",".join(str(port) for port in others)
        processes.append(GatewayProcess(tmp_path / name, first, gateway=name, pause=0.02, keepalive=5, more_ports=more))
    for process in processes:
        process.start()
    yield processes
    for process in processes:
        if process.alive:
            process.kill()


def test_taps_and_watermarks_outlive_the_death_of_each_node_in_turn(
    cluster: Cluster, hub: Hub, gateways: list[GatewayProcess]
) -> None:
    def held(more: int) -> bool:
        rows = hub.rows()
        return all(len(rows[gateway.gateway]) >= more for gateway in gateways)

    wait_until(lambda: held(50), "nothing is committed", 60)
    for node in cluster.nodes:
        node.kill()
        before = max(len(gateway.kept) for gateway in gateways)
        wait_until(lambda goal=before + 100: held(goal), "taps do not go on without the node", 90)  # type: ignore[misc]
        node.start()
    for gateway in gateways:
        gateway.finish(60)
    rows = hub.rows()
    for gateway in gateways:
        assert gateway.done == len(gateway.kept), "the gateway was not told that the hub holds everything"
        assert sorted(rows[gateway.gateway]) == sorted(gateway.kept)
