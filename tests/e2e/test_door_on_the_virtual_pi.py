from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.access.event import Event, decode_event
from gateway.bench.door import STRIKE, DoorDaemon
from gateway.journal.face import JournalReader
from gateway.simulator.virtual_pi import VirtualPi, missing

pytestmark = [
    pytest.mark.virtual_pi,
    pytest.mark.skipif(bool(missing()), reason=f"the virtual Pi {missing()}"),
    pytest.mark.xdist_group("virtual_pi_daemon"),
]

KNOWN = bytes.fromhex("0b112233")
STRANGER = bytes.fromhex("0b445566")
CONTACT, REX = 27, 22


@pytest.fixture
def pi() -> Iterator[VirtualPi]:
    with VirtualPi(("spidev0.0",)) as made:
        # The pull-ups of the header: the leaf is closed, which reads low, and nobody presses the button.
        made.gpio.drive(REX, high=True)
        made.gpio.drive(CONTACT, high=False)
        yield made


@pytest.fixture
def door(pi: VirtualPi, tmp_path: Path) -> DoorDaemon:
    door = DoorDaemon(pi, tmp_path, "rc522", [KNOWN])
    door.wait_until_ready()
    return door


def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _events(folder: Path) -> list[Event]:
    return [decode_event(raw) for _, raw in JournalReader.open(folder / "state" / "journal").stored()]


def _taps(folder: Path) -> list[tuple[object, object]]:
    return [(event.decision, event.reason) for event in _events(folder) if event.kind == "tap"]


def _stop(door: DoorDaemon) -> int:
    door.process.send_signal(signal.SIGTERM)
    return door.process.wait(20)


def test_a_card_on_the_emulated_rc522_asserts_the_strike_line_and_is_recorded(door: DoorDaemon, tmp_path: Path) -> None:
    took_ms = door.tap_ms(KNOWN)
    assert took_ms is not None
    assert took_ms < 500
    assert _stop(door) == 0
    assert _taps(tmp_path) == [("granted", "ok")]


def test_a_stranger_s_card_leaves_the_strike_alone_and_is_recorded(
    pi: VirtualPi, door: DoorDaemon, tmp_path: Path
) -> None:
    pi.enter("spidev0.0", "classic_1k", STRANGER.hex())
    _until(lambda: (door.view() or {}).get("denied") == 1)
    assert not pi.gpio.level(STRIKE)
    assert _stop(door) == 0
    assert _taps(tmp_path) == [("denied", "card_unknown")]


def test_closing_the_leaf_relocks_before_the_time_is_over(pi: VirtualPi, door: DoorDaemon) -> None:
    pi.enter("spidev0.0", "classic_1k", KNOWN.hex())
    pi.gpio.wait_for(STRIKE, high=True, timeout_seconds=2)
    pi.gpio.drive(CONTACT, high=True)
    _until(lambda: (door.view() or {"doors": []})["doors"] == [["front-door", "open"]])
    pi.gpio.drive(CONTACT, high=False)
    pi.gpio.wait_for(STRIKE, high=False, timeout_seconds=2)
    _until(lambda: (door.view() or {"doors": []})["doors"] == [["front-door", "locked"]])


def test_the_rex_button_unlocks_and_a_forced_leaf_is_recorded(pi: VirtualPi, door: DoorDaemon, tmp_path: Path) -> None:
    pi.gpio.drive(REX, high=False)
    pi.gpio.wait_for(STRIKE, high=True, timeout_seconds=2)
    pi.gpio.drive(REX, high=True)
    pi.gpio.wait_for(STRIKE, high=False, timeout_seconds=2)
    pi.gpio.drive(CONTACT, high=True)
    _until(lambda: (door.view() or {"doors": []})["doors"] == [["front-door", "forced_open"]])
    assert _stop(door) == 0
    states = [event.door["state"] for event in _events(tmp_path) if isinstance(event.door, dict)]
    assert states == ["unlocked", "forced_open"]


def test_a_pulled_reader_is_named_and_works_again_when_it_is_back(pi: VirtualPi, door: DoorDaemon) -> None:
    pi.order("spidev0.0", "unplug")
    _until(lambda: (door.view() or {"verdict": {}})["verdict"].get("level") == "bad")
    pi.order("spidev0.0", "plug")
    door.wait_until_ready()
    assert door.tap_ms(KNOWN) is not None


def test_killed_without_warning_the_door_starts_locked_and_knows_what_it_recorded(
    pi: VirtualPi, door: DoorDaemon, tmp_path: Path
) -> None:
    assert door.tap_ms(KNOWN) is not None
    _until(lambda: (door.view() or {})["granted"] == 1 and (door.view() or {})["journal_head"] >= 3)
    pi.enter("spidev0.0", "classic_1k", KNOWN.hex())
    pi.gpio.wait_for(STRIKE, high=True, timeout_seconds=2)
    door.process.kill()
    door.process.wait(10)
    pi.leave("spidev0.0")
    again = DoorDaemon(pi, tmp_path, "rc522", [KNOWN])
    again.wait_until_ready()
    pi.gpio.wait_for(STRIKE, high=False, timeout_seconds=2)
    assert again.tap_ms(KNOWN) is not None
    assert _stop(again) == 0
    assert len(_taps(tmp_path)) >= 2
    assert {event.boot for event in _events(tmp_path)} == {1, 2}


def test_the_same_daemon_runs_on_the_mfrc522_library(pi: VirtualPi, tmp_path: Path) -> None:
    door = DoorDaemon(pi, tmp_path, "mfrc522", [KNOWN])
    door.wait_until_ready()
    assert door.tap_ms(KNOWN) is not None
    assert _stop(door) == 0
    assert _taps(tmp_path) == [("granted", "ok")]
