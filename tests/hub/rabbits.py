"""RabbitMQ on loopback, one node or several, with everything that it writes in a folder of the test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.hub.samples import GATEWAY, free_port, message, wait_until

# Another RabbitMQ than the installed one, for instance of a later Debian in a folder of its own.
SERVER = Path(os.environ.get("TAPGATE_RABBITMQ_SERVER", "/usr/lib/rabbitmq/bin/rabbitmq-server"))
EPMD = shutil.which("epmd")


def missing_rabbit() -> bool:
    return not SERVER.exists() or EPMD is None


def rabbit_version() -> tuple[int, ...]:
    """Return the version of the RabbitMQ in use, by the name of its folder; empty when there is none."""
    if missing_rabbit():
        return ()
    # Its own command line would leave a port mapper behind.
    names = [folder.name for folder in (SERVER.parent.parent / "lib").glob("rabbitmq_server-*")]
    return max((tuple(int(word) for word in name.partition("-")[2].split(".")) for name in names), default=())


class Rabbit:
    """One node.

    Args:
        home: holds the cookie, which the nodes of one cluster share; the node's own folder when not given.
        epmd_port: of a port mapper that the nodes of one cluster share; a free port when 0.
        settings: further lines of rabbitmq.conf.
    """

    def __init__(
        self, folder: Path, home: Path | None = None, epmd_port: int = 0, settings: tuple[str, ...] = ()
    ) -> None:
        self.folder, self._settings = folder, settings
        self.amqp_port, self.mqtt_port, self.epmd_port, dist = (free_port() for _ in range(4))
        self.epmd_port = epmd_port or self.epmd_port
        self.name = f"tapgate{self.amqp_port}@localhost"
        self.join([])
        (folder / "plugins").write_text("[rabbitmq_mqtt].")
        self._environment = {
            **os.environ,
            "HOME": str(home or folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def join(self, names: list[str]) -> None:
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.amqp_port}", f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.mqtt_port}"]
        lines += self._settings
        if names:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
        lines += [f"cluster_formation.classic_config.nodes.{number} = {name}" for number, name in enumerate(names, 1)]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.amqp_port}/%2F?heartbeat=10"

    def start(self) -> None:
        self.launch()
        self.wait()

    def launch(self) -> None:
        # `exec` in its scripts makes the Erlang machine this very process.
        self.process = subprocess.Popen(
            [str(SERVER)],
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        wait_until(self._speaks_or_ended, "RabbitMQ does not start", 60)
        assert self.process is not None
        assert self.process.poll() is None, "RabbitMQ ended while it started"

    def _speaks_or_ended(self) -> bool:
        return (self.process is not None and self.process.poll() is not None) or self._speaks_mqtt()

    def _speaks_mqtt(self) -> bool:
        client = mqtt_client("probe")
        try:
            answered = client.connect("127.0.0.1", self.mqtt_port) == paho.MQTT_ERR_SUCCESS
            return answered and client.loop(0.5) == paho.MQTT_ERR_SUCCESS and client.is_connected()
        except OSError:
            return False
        finally:
            client.disconnect()

    def ask(self, *words: str) -> str:
        """Ask the node by its own command line; empty when it does not answer."""
        command = [str(SERVER.with_name(words[0])), "-n", self.name, *words[1:]]
        done = subprocess.run(command, env=self._environment, check=False, capture_output=True, timeout=30)
        return done.stdout.decode()

    def kill(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()

    def close(self) -> None:
        self.kill()
        end_epmd(self.epmd_port)


class Cluster:
    """Several nodes of one cluster, on one port mapper and one cookie."""

    def __init__(self, folder: Path, settings: tuple[str, ...] = (), count: int = 3) -> None:
        self.epmd_port = free_port()
        (folder / ".erlang.cookie").write_text("TAPGATECLUSTER")
        (folder / ".erlang.cookie").chmod(0o400)
        self.nodes: list[Rabbit] = []
        for number in range(count):
            own = folder / f"node-{number}"
            own.mkdir()
            self.nodes.append(Rabbit(own, folder, self.epmd_port, settings))
        for node in self.nodes:
            node.join([other.name for other in self.nodes])

    def start(self) -> None:
        first, *others = self.nodes
        first.launch()
        if rabbit_version() < (4,):
            first.wait()
        # Since version 4 the first waits until it has heard of the others; before, it makes the cluster they join.
        for node in others:
            node.launch()
        for node in self.nodes:
            node.wait()

    def urls(self, first: int = 0) -> str:
        """Return the URLs of all nodes for a worker, beginning with one."""
        turned = self.nodes[first:] + self.nodes[:first]
        return ",".join(node.url for node in turned)

    def close(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.kill()
        end_epmd(self.epmd_port)


def started_cluster(folder: Path, *settings: str) -> Cluster:
    """Start three nodes; once more with other ports when that fails.

    Args:
        settings: further lines of rabbitmq.conf.
    """
    for name in ("first", "second"):
        # Four ports a node are drawn before they are taken; beside other tests one may be gone by then.
        (folder / name).mkdir()
        nodes = Cluster(folder / name, settings)
        try:
            nodes.start()
        except AssertionError:
            nodes.close()
        else:
            return nodes
    raise AssertionError("RabbitMQ did not start twice in a row")


def end_epmd(port: int) -> None:
    assert EPMD is not None
    # It refuses to go while it still believes a node to be there.
    stop = [EPMD, "-port", str(port), "-kill"]
    wait_until(lambda: b"Killed" in _answer(stop), "epmd stays")


def _answer(command: list[str]) -> bytes:
    return subprocess.run(command, check=False, capture_output=True, timeout=10).stdout


def mqtt_client(name: str) -> paho.Client:
    return paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311)


class Sender:
    """A plain MQTT 3.1.1 client of one node, which is what Debian's RabbitMQ speaks."""

    def __init__(self, rabbit: Rabbit) -> None:
        self.client = mqtt_client("a-gateway")
        self.client.connect("127.0.0.1", rabbit.mqtt_port)
        self.client.loop_start()
        wait_until(self.client.is_connected, "no MQTT connection to RabbitMQ")

    def send(self, *events: bytes, last: str = "taps", gateway: str = GATEWAY) -> bool:
        """Send one message; tells whether the broker confirmed it."""
        sent = message(*events, last=last, gateway=gateway)
        try:
            info = self.client.publish(sent.topic, sent.payload, qos=1)
            info.wait_for_publish(10)
        except (RuntimeError, ValueError):
            return False
        return info.is_published()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
