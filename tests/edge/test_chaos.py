"""Gateway process and broker killed in any order under load: what a ticket confirmed reaches the hub, each event once.

The broker keeps nothing on disk. TAPGATE_CHAOS_ROUNDS makes a soak of it.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from gateway.access.event import decode_event
from gateway.journal.verify import verify
from tests.brokers import Iotcore, Mosquitto
from tests.edge.gateway_process import GatewayProcess
from tests.edge.small_hub import SmallHub, wait_until
from tests.journal.journals import assert_chained

ROUNDS = int(os.environ.get("TAPGATE_CHAOS_ROUNDS", "12"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + ROUNDS * 10)]


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
