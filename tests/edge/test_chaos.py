"""Gateway process and broker killed in any order under load: what a ticket confirmed reaches the hub, each event once.

The broker keeps nothing on disk. TAPGATE_CHAOS_ROUNDS makes a soak of it.
"""

from __future__ import annotations

import os
import queue
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.access.event import decode_event
from gateway.journal.verify import verify
from tests.brokers import Iotcore, Mosquitto
from tests.edge.small_hub import SmallHub, wait_until
from tests.journal.journals import assert_chained

ROUNDS = int(os.environ.get("TAPGATE_CHAOS_ROUNDS", "12"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + ROUNDS * 10)]

_GATEWAY = """
import sys, time
from pathlib import Path
from gateway.config import BrokerSettings
from gateway.edge.relay import Relay
from tests.journal.journals import GATEWAY, small, tap
journal = small(Path(sys.argv[1]), quota_bytes=64 << 20)
broker = BrokerSettings("127.0.0.1", int(sys.argv[2]), tls=False)
relay = Relay(journal, broker, gateway_id=GATEWAY, site="st-marys", resend_seconds=1.0)
relay.start()
number = int(sys.argv[3])
print("boot", journal.boot, flush=True)
while True:
    seq = journal.append(tap(number, boot=journal.boot)).wait(20)
    print("kept", seq, number, flush=True)
    number += 1
    time.sleep(0.002)
"""


class GatewayProcess:
    """The gateway's journal and relay in a process of their own, which can be killed."""

    def __init__(self, folder: Path, port: int) -> None:
        self._arguments = [str(folder), str(port)]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.kept: dict[int, int] = {}
        self._booted: queue.SimpleQueue[str] = queue.SimpleQueue()

    def start(self) -> None:
        first = str(len(self.kept) + 100_000 * (1 + len(self.kept) // 100_000))
        command = [sys.executable, "-c", _GATEWAY, *self._arguments, first]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()
        self._booted.get(timeout=20)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.split()
            if words[0] == "boot":
                self._booted.put(line)
            elif len(words) == 3 and line.endswith("\n"):
                self.kept[int(words[1])] = int(words[2])

    def kill(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


def test_gateway_and_broker_killed_in_any_order_lose_nothing_and_double_nothing(
    broker: Mosquitto | Iotcore, tmp_path: Path
) -> None:
    roll = random.Random(ROUNDS)
    hub = SmallHub(broker.settings)
    hub.start()
    gateway = GatewayProcess(tmp_path / "journal", broker.port)
    gateway.start()
    for _ in range(ROUNDS):
        time.sleep(roll.uniform(0.2, 1.5))
        victim = roll.choice(["gateway", "broker", "both"])
        if victim != "broker":
            gateway.kill()
        if victim != "gateway":
            broker.kill()
            time.sleep(roll.uniform(0, 0.5))
            broker.start()
        if victim != "broker":
            gateway.start()
    before_last = max(gateway.kept)
    wait_until(lambda: hub.marks and max(mark.upto for mark in hub.marks.values()) > before_last, 60)
    gateway.kill()
    hub.stop()

    assert len(hub.marks) == 1
    epoch, mark = next(iter(hub.marks.items()))
    arrived = {seq: number for seq, number in gateway.kept.items() if seq <= mark.upto}
    assert len(arrived) > ROUNDS * 20
    for seq, number in arrived.items():
        assert decode_event(hub.rows[epoch, seq]).person == f"p_{number:016x}"
    assert hub.conflicts == []
    assert_chained([hub.rows[epoch, seq] for seq in range(1, mark.upto + 1)])
    assert {finding.kind for finding in verify(tmp_path / "journal").findings} <= {"torn"}
