"""Real brokers for the tests: mosquitto as a school runs it, and the embedded one of the demo."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import BrokerSettings
from gateway.link.embedded import EmbeddedBroker

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


class Mosquitto:
    """A mosquitto on 127.0.0.1 that can be killed and started again on the same port; nothing is kept on disk."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._file = folder / f"mosquitto-{self.port}.conf"
        self._file.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n"
            f"max_queued_messages 0\nlog_type error\n{extra}\n"
        )

    @property
    def settings(self) -> BrokerSettings:
        return BrokerSettings(host="127.0.0.1", port=self.port, tls=False)

    def start(self) -> None:
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._file)], stderr=subprocess.DEVNULL)
        wait_for_port(self.port)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    stop = kill


class Iotcore:
    """The embedded broker with the face of Mosquitto."""

    def __init__(self) -> None:
        self.port = free_port()
        self._broker = EmbeddedBroker(self.port)

    @property
    def settings(self) -> BrokerSettings:
        return self._broker.settings

    def start(self) -> None:
        self._broker.start()

    def kill(self) -> None:
        self._broker.stop()

    stop = kill


def needs_mosquitto() -> None:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    needs_mosquitto()
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=["mosquitto", "iotcore"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto | Iotcore]:
    """Each kind of broker in turn, started."""
    if request.param == "mosquitto":
        needs_mosquitto()
    server = Mosquitto(tmp_path) if request.param == "mosquitto" else Iotcore()
    server.start()
    yield server
    server.stop()
