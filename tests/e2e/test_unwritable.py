"""Disks that take nothing, folders that are gone and syncs that take seconds, under real daemons."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.event import Event, decode_event
from gateway.journal.face import JournalReader
from gateway.journal.verify import verify
from tests.brokers import needs_mosquitto
from tests.e2e.daemons import House, Reader, status
from tests.edge.small_hub import wait_until

TAPS = 31
pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(300)]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    needs_mosquitto()
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    monkeypatch.setenv("TAPGATE_PANEL", str(runtime / "panel.sock"))
    made = House(tmp_path)
    yield made
    made.close()


class Card:
    """An ext4 on a loop device that can turn read-only under open files, as Linux makes it after errors."""

    def __init__(self, folder: Path) -> None:
        self._image, self.folder = folder / "card.img", folder / "A"
        self.folder.mkdir()
        with self._image.open("wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(self._image)], check=True, timeout=30)
        self.mount()

    def mount(self) -> None:
        def is_writable() -> bool:
            subprocess.run(["mount", "-o", "loop", str(self._image), str(self.folder)], check=True, timeout=30)
            if os.access(self.folder, os.W_OK):
                return True
            # The kernel still had the file system that was aborted; it is let go a moment after the last process.
            self.unmount()
            return False

        wait_until(is_writable, 30, "the card stays read-only")

    def turn_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,abort", str(self.folder)], check=True, timeout=30)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True, timeout=30)


@pytest.fixture
def card(house: House) -> Iterator[Card]:
    made = Card(house.folder)
    yield made
    for process in house.processes:
        process.kill()
        process.wait()
    subprocess.run(["umount", str(made.folder)], check=False, capture_output=True, timeout=30)


def present(reader: Reader, first: int, count: int, pause: float = 0.15) -> None:
    for number in range(first, first + count):
        reader.tap(number)
        time.sleep(pause)


def recorded(folder: Path) -> list[Event]:
    return [decode_event(raw) for _, raw in JournalReader.open(folder / "journal").stored()]


def taps(folder: Path) -> int:
    return sum(event.kind == "tap" for event in recorded(folder))


def refused(folder: Path) -> list[int]:
    bodies = [event.system for event in recorded(folder) if isinstance(event.system, dict)]
    return [body["count"] for body in bodies if body["what"] == "events_refused"]


@needs_root
@pytest.mark.parametrize("kind", ["kiosk", "door"])
def test_taps_of_a_card_that_turns_read_only_travel_from_memory(house: House, card: Card, kind: str) -> None:
    house.hub("hub")
    reader = Reader()
    process, port = house.gateway("A", reader, kind=kind)
    wait_until(lambda: status(port).get("roster_version"), 60, "no roster arrives")
    present(reader, 1, 5)
    wait_until(lambda: house.taps("hub") == 5, 30)
    card.turn_read_only()
    present(reader, 6, TAPS)
    wait_until(lambda: house.taps("hub") == 5 + TAPS, 30, f"the hub has {house.taps('hub')}")
    assert taps(card.folder) == 5
    assert "read-only" in str(status(port)["verdict"])
    # A second start on the same card: its taps travel too, and the hub takes it for no copy.
    process.kill()
    process.wait()
    process, port = house.gateway("A", reader, kind=kind)
    wait_until(lambda: status(port).get("link") == "online", 60)
    present(reader, 100, 3)
    wait_until(lambda: house.taps("hub") == 8 + TAPS, 30, f"the hub has {house.taps('hub')}")
    process.kill()
    process.wait()
    card.unmount()
    card.mount()
    process, port = house.gateway("A", reader, kind=kind)
    wait_until(lambda: status(port).get("link") == "online" and status(port).get("waiting") == 0, 60)
    present(reader, 200, 2)
    wait_until(lambda: house.taps("hub") == 10 + TAPS and status(port)["waiting"] == 0, 30)
    assert "forked" not in house.log("hub")


@needs_root
def test_what_a_read_only_card_lost_without_a_link_is_told_after_the_restart(house: House, card: Card) -> None:
    house.broker.stop()
    reader = Reader()
    process, port = house.gateway("A", reader, kind="door")
    wait_until(lambda: status(port).get("readers"), 60)
    card.turn_read_only()
    present(reader, 1, TAPS)
    wait_until(lambda: status(port).get("denied") == TAPS, 20)
    process.kill()
    process.wait()
    card.unmount()
    card.mount()
    assert taps(card.folder) == 0
    _, port = house.gateway("A", reader, kind="door")
    wait_until(lambda: refused(card.folder), 60, "nothing tells of the lost taps")
    (count,) = refused(card.folder)
    assert TAPS <= count <= TAPS + 10
    (told,) = [e.system for e in recorded(card.folder) if isinstance(e.system, dict) and "count" in e.system]
    assert "read-only" in told["why"]
    assert told["since"] < told["until"]


def test_a_journal_folder_that_is_removed_while_running_is_made_again(house: House) -> None:
    house.hub("hub")
    reader = Reader()
    _, port = house.gateway("A", reader, kind="door")
    wait_until(lambda: status(port).get("roster_version"), 60)
    present(reader, 1, 5)
    wait_until(lambda: house.taps("hub") == 5 and status(port)["waiting"] == 0, 30)
    folder = house.folder / "A"
    shutil.rmtree(folder / "journal")
    present(reader, 6, 5)
    wait_until(lambda: house.taps("hub") == 10, 30, f"the hub has {house.taps('hub')}")
    shutil.move(folder / "journal", folder / "elsewhere")
    present(reader, 11, 5)
    wait_until(lambda: house.taps("hub") == 15, 30, f"the hub has {house.taps('hub')}")
    # Each folder holds what came while it was there; the numbers go on.
    assert taps(folder) == 5
    kinds = {item.kind for item in verify(folder / "journal").findings}
    assert kinds <= {"torn"}
    assert status(port)["journal_state"] == "ok"


@needs_root
def test_a_journal_folder_that_is_read_only_at_the_start_stops_nothing_and_is_healed(house: House) -> None:
    house.hub("hub")
    reader = Reader()
    folder = house.folder / "A" / "journal"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True, timeout=10)
    try:
        process, port = house.gateway("A", reader, kind="door")
        wait_until(lambda: status(port).get("roster_version"), 60)
        present(reader, 1, 10)
        wait_until(lambda: house.taps("hub") == 10, 30, f"the hub has {house.taps('hub')}")
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True, timeout=10)
        wait_until(lambda: taps(house.folder / "A") == 10, 30, "the journal is not healed")
        present(reader, 11, 5)
        wait_until(lambda: house.taps("hub") == 15 and status(port)["waiting"] == 0, 30)
        assert taps(house.folder / "A") == 15
        assert verify(folder).ok
        process.terminate()
        process.wait(20)
        assert house.taps("hub") == 15
    finally:
        for each in house.processes:
            each.kill()
            each.wait()
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


@needs_strace
def test_a_card_whose_syncs_take_seconds_loses_no_tap_of_a_lane(house: House) -> None:
    house.hub("hub")
    reader = Reader()
    slow = ("strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=1500000")
    _, port = house.gateway("A", reader, kind="lane", front=slow)
    wait_until(lambda: status(port).get("roster_version"), 90)
    present(reader, 1, 20, pause=0.5)
    wait_until(lambda: house.taps("hub") == 20, 60, f"the hub has {house.taps('hub')}")
    events = recorded(house.folder / "A")
    assert sum(event.kind == "tap" for event in events) == 20
    late = [event for event in events if isinstance(event.system, dict) and event.system["what"] == "tap_not_served"]
    assert len(late) < 20
