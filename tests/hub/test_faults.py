"""Everything that can be killed is killed, in random order, while three gateways send: nothing lost, nothing twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.hub.conftest import Postgres
from tests.hub.samples import wait_until
from tests.hub.school import GATEWAYS, REAL, TWIN, WORKERS, School, Sender, lost

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto]


def _storm(school: School, draw: random.Random, kills: list[str]) -> list[Sender]:
    senders = [Sender(school.broker, name) for name in GATEWAYS]
    for sender in senders:
        sender.start()
    wait_until(lambda: all(sender.upto > 20 for sender in senders), "nothing is committed", 60)
    for victim in kills:
        time.sleep(draw.uniform(0.3, 1.2))
        if victim == "worker":
            school.kill_worker(draw.randrange(WORKERS))
        elif victim == "broker":
            school.kill_broker()
        else:
            school.kill_database()
    for sender in senders:
        sender.closing.set()
    for sender in senders:
        sender.join(90)
        assert not sender.is_alive(), f"{sender.topics.gateway} was acknowledged up to {sender.upto} only"
    return senders


@pytest.mark.timeout(240)
def test_the_harness_catches_a_worker_that_acknowledges_before_it_commits(tmp_path: Path, postgres: Postgres) -> None:
    school = School(tmp_path, postgres, TWIN)
    try:
        senders = _storm(school, random.Random(11), ["worker"] * 5)
        assert lost(school, senders) > 0
    finally:
        school.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("database", "seed"), [("postgres", 1), ("postgres", 2), ("sqlite", 3)])
def test_nothing_is_lost_or_counted_twice_whatever_is_killed(
    tmp_path: Path, postgres: Postgres, database: str, seed: int
) -> None:
    draw = random.Random(seed)
    kills = ["worker"] * 6 + ["broker"] * 3 + ["database"] * (2 if database == "postgres" else 0)
    draw.shuffle(kills)
    school = School(tmp_path, postgres if database == "postgres" else None, REAL)
    try:
        senders = _storm(school, draw, kills)
        assert lost(school, senders) == 0
        stored = school.stored()
        for sender in senders:
            assert len(stored[sender.topics.gateway]) == len(sender.raws) > 300
    finally:
        school.close()
