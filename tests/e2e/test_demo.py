from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.commands.demo import Tally, _result
from gateway.commands.demo_site import HubRecord
from tests.brokers import MOSQUITTO, Mosquitto

pytestmark = pytest.mark.timeout(240)


def _demo(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--json", "--port", "0", "--pupils", "300", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture
def school_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def test_with_the_embedded_broker_and_the_hub_killed_half_way_nothing_is_lost_or_counted_twice() -> None:
    result = _demo("--seconds", "10", "--outage", "3")
    assert result["taps"] == result["committed"]
    assert (result["lost"], result["duplicated"], result["unread"]) == (0, 0, 0)
    assert isinstance(result["taps"], int)
    assert result["taps"] > 20
    assert result["gateways"] == 2


@pytest.mark.mosquitto
def test_the_same_way_of_a_tap_passes_with_mosquitto(school_broker: Mosquitto) -> None:
    result = _demo("--seconds", "8", "--outage", "3", "--broker", f"mqtt://127.0.0.1:{school_broker.port}")
    assert result["taps"] == result["committed"]
    assert (result["lost"], result["duplicated"]) == (0, 0)


def test_the_count_would_see_a_lost_and_a_doubled_tap() -> None:
    tapped = Tally(sent=3, done=3, taps=Counter({("lane-1", "a"): 1, ("lane-1", "b"): 1, ("lane-2", "a"): 1}))
    held = HubRecord(Counter({("lane-1", "a"): 2, ("lane-2", "a"): 1}), [1.0], 300)
    result = _result(tapped, held, [])
    assert (result["taps"], result["committed"]) == (3, 3)
    assert (result["lost"], result["duplicated"]) == (1, 1)
