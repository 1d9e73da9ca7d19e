from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.demo import Tally, _result
from gateway.simulator.demo_site import GATEWAYS, HubRecord
from gateway.simulator.school import sample_school
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


def _check_nothing_is_lost(result: dict[str, Any]) -> None:
    assert (result["lost"], result["duplicated"]) == (0, 0)
    # A busy machine may miss a card that is held for a moment only; what it read late is committed all the same.
    assert result["unread"] <= result["taps"] / 10
    assert result["taps"] <= result["committed"] <= result["taps"] + result["unread"]


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
    _check_nothing_is_lost(result)
    assert isinstance(result["taps"], int)
    assert result["taps"] > 20
    assert result["gateways"] == 2


@pytest.mark.mosquitto
def test_the_same_way_of_a_tap_passes_with_mosquitto(school_broker: Mosquitto) -> None:
    result = _demo("--seconds", "8", "--outage", "3", "--broker", f"mqtt://127.0.0.1:{school_broker.port}")
    _check_nothing_is_lost(result)


def test_the_count_would_see_a_lost_and_a_doubled_tap() -> None:
    tapped = Tally(sent=3, done=3, taps=Counter({("lane-1", "a"): 1, ("lane-1", "b"): 1, ("lane-2", "a"): 1}))
    held = HubRecord(Counter({("lane-1", "a"): 2, ("lane-2", "a"): 1}), [1.0], 300)
    result = _result(tapped, held, [])
    assert (result["taps"], result["committed"]) == (3, 3)
    assert (result["lost"], result["duplicated"]) == (1, 1)


def test_no_uid_and_no_name_lies_in_the_files_of_a_gateway(tmp_path: Path) -> None:
    folder = tmp_path / "school"
    _demo("--seconds", "5", "--keep", str(folder))
    school = sample_school(300)
    uids = [uid for _, uid in school.cards()]
    names = {person.family_name for person in school.people if len(person.family_name) > 6}
    needles = [uid.raw for uid in uids]
    needles += [form.encode() for uid in uids for form in (uid.raw.hex(), uid.raw.hex().upper(), uid.raw[::-1].hex())]
    needles += [name.encode() for name in names]
    stored = [path for gateway in GATEWAYS for path in (folder / gateway.id).rglob("*") if path.is_file()]
    assert any(path.suffix == ".roster" for path in stored)
    image = b"\0".join(path.read_bytes() for path in stored)
    # The harness sees what is there: the keys of tapped cards are in the image, and the people's file holds the names.
    assert b'"decision":"granted"' in image
    assert any(name.encode() in (folder / "people.csv").read_bytes() for name in names)
    assert [needle for needle in needles if needle in image] == []


@pytest.mark.slow
def test_a_frozen_hub_costs_no_tap_although_it_ends_the_embedded_broker(tmp_path: Path) -> None:
    # rumqttd's router ends when it gives up on the silent hub, after one and a half keep-alives; then nobody connects.
    folder = tmp_path / "school"
    command = [sys.executable, "-m", "gateway", "demo", "--json", "--port", "0", "--pupils", "300", "--seconds", "48"]
    demo = subprocess.Popen(
        [*command, "--keep", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stderr is not None
    while "status" not in demo.stderr.readline():
        assert demo.poll() is None
    (hub,) = [pid for pid in _family(str(folder), demo.pid) if b"hub.toml" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(hub, signal.SIGSTOP)
    time.sleep(36)  # the frozen time itself: longer than the broker's patience
    os.kill(hub, signal.SIGCONT)
    out, err = demo.communicate(timeout=150)
    result = json.loads(out.splitlines()[-1])
    assert (result["lost"], result["duplicated"]) == (0, 0), err[-2000:]
    assert 50 < result["taps"] <= result["committed"] <= result["taps"] + result["unread"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ending_the_demo_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "school"
    command = [sys.executable, "-m", "gateway", "demo", "--port", "0", "--pupils", "50", "--keep", str(folder)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert demo.stdout is not None
    while "status" not in demo.stdout.readline():
        assert demo.poll() is None
    started = _family(str(folder), demo.pid)
    assert len(started) >= 5  # hub, two gateways and their pages, besides the broker
    demo.send_signal(number)
    demo.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while (left := [pid for pid in started if _is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def _family(folder: str, demo: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if folder in words or parent == demo:
            found.append(int(path.name))
    return [pid for pid in found if pid != demo]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
