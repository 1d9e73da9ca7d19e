"""A worker that ends leaves its share of the taps to the others at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import BrokerSettings
from tests.hub.samples import SITE, mosquitto, tap, wait_until
from tests.hub.test_mqtt_share import Gateway

TAPS = 60
pytestmark = pytest.mark.mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerSettings]:
    with mosquitto(tmp_path) as (settings, _):
        yield settings


def _worker(folder: Path, broker: BrokerSettings, number: int, module: str) -> subprocess.Popen[bytes]:
    (folder / "site.key").write_text(bytes(range(32)).hex())
    file = folder / f"worker-{number}.toml"
    file.write_text(
        f'[hub]\nstate_dir = "state"\nbroker = "mqtt://127.0.0.1:{broker.port}"\nworker = "hub-{number}"\n'
        f'[[site]]\nid = "{SITE}"\nsite_key_file = "site.key"\ntrust_unenrolled = true\n'
    )
    words = [sys.executable, "-m", module, "hub", "--config", str(file), "--role", "ingest"]
    with (folder / f"worker-{number}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("module", ["gateway", "tests.hub.keeps_its_share"])
def test_a_worker_that_ends_keeps_none_of_the_taps(
    broker: BrokerSettings, tmp_path: Path, how: signal.Signals, module: str
) -> None:
    workers = [_worker(tmp_path, broker, number, module) for number in range(2)]
    gateway = Gateway(broker)
    try:
        # What is sent before any worker has its share is nobody's, so the first ones are sent until one is taken.
        wait_until(lambda: gateway.send(tap(1)) or gateway.upto() >= 1, "no worker takes anything", 40)
        # Both have their share as soon as each has committed something.
        while not all(b"takes its share" in (tmp_path / f"worker-{number}.log").read_bytes() for number in range(2)):
            assert all(worker.poll() is None for worker in workers)
            time.sleep(0.05)
        workers[1].send_signal(how)
        workers[1].wait(20)
        first = 2
        for number in range(first, first + TAPS):
            gateway.send(tap(number))
        deadline = time.monotonic() + 4
        while gateway.upto() < first + TAPS - 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        taken = gateway.upto() - first + 1
        if module == "gateway":
            assert taken == TAPS
        else:
            assert taken < TAPS
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
