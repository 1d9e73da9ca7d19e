"""The daemon's own bus thread over several chips of one bus, through the kernel interface."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.simulator.virtual_pi import VirtualPi

OWNER = Path(__file__).with_name("bus_owner.py")
PORTS = ("spidev0.0", "spidev0.1", "spidev0.2", "spidev0.3")


@pytest.fixture
def pi() -> Iterator[VirtualPi]:
    with VirtualPi(PORTS, ioctl_us=0, transfer_us=0) as made:
        yield made


class BusOwner:
    def __init__(self, pi: VirtualPi, ports: tuple[str, ...], **options: object) -> None:
        command = [sys.executable, "-W", "ignore", str(OWNER), json.dumps(options), *ports]
        self.child = pi.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._said: queue.SimpleQueue[dict] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        assert sorted(self.hear("ready")["reader"] for _ in ports) == list(ports)

    def _listen(self) -> None:
        for line in self.child.stdout:
            self._said.put(json.loads(line))

    def hear(self, *kinds: str, seconds: float = 20.0) -> dict:
        """Wait for the next line of one of these kinds."""
        end = time.monotonic() + seconds
        while True:
            said = self._said.get(timeout=max(0.0, end - time.monotonic()))
            if said["kind"] in kinds:
                return said

    def reads(self, seconds: float) -> list[tuple[str, str]]:
        """Bound every read by this time."""
        found, end = [], time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            try:
                said = self._said.get(timeout=rest)
            except queue.Empty:
                break
            found += [(said["reader"], said["uid"])] if said["kind"] == "CardRead" else []
        return found

    def stop(self) -> dict:
        self.child.stdin.close()
        return self.hear("stopped")


def uid(place: int, number: int = 0) -> str:
    return bytes([0x5A, place, number, 1]).hex()


def test_four_readers_on_one_bus_read_their_own_cards(pi: VirtualPi) -> None:
    owner = BusOwner(pi, PORTS)
    for place, port in enumerate(PORTS):
        pi.enter(port, "classic_1k", uid(place))
    heard = sorted((said["reader"], said["uid"]) for said in (owner.hear("CardRead") for _ in PORTS))
    assert heard == [(port, uid(place)) for place, port in enumerate(PORTS)]
    for port in PORTS:
        pi.leave(port)
    assert sorted(owner.hear("CardGone")["reader"] for _ in PORTS) == list(PORTS)
    assert owner.stop()["resets"] == [0, 0, 0, 0]


def test_two_calls_of_seven_transfers_are_an_empty_look_of_one_of_two(pi: VirtualPi) -> None:
    owner = BusOwner(pi, PORTS[:2])
    before = pi.stats(PORTS[0])
    assert owner.reads(0.5) == []
    after = pi.stats(PORTS[0])
    calls, transfers = (after[key] - before[key] for key in ("calls", "transfers"))
    assert 3.4 < transfers / calls < 3.7


def test_an_unplugged_reader_goes_and_comes_while_the_others_read_on(pi: VirtualPi) -> None:
    owner = BusOwner(pi, PORTS[:3])
    pi.order(PORTS[1], "unplug")
    assert owner.hear("offline")["reader"] == PORTS[1]
    for number in range(5):
        pi.enter(PORTS[0], "classic_1k", uid(0, number))
        assert owner.hear("CardRead")["uid"] == uid(0, number)
        pi.leave(PORTS[0])
    pi.order(PORTS[1], "plug")
    assert owner.hear("ready")["reader"] == PORTS[1]
    pi.enter(PORTS[1], "classic_1k", uid(1))
    assert owner.hear("CardRead")["reader"] == PORTS[1]
    assert owner.stop()["resets"] == [0, 0, 0]


@pytest.mark.parametrize("group", ["", "gate"])
def test_close_antennas_disturb_each_other_unless_they_take_turns(pi: VirtualPi, group: str) -> None:
    pi.order(PORTS[0], "couple", other=PORTS[1])
    owner = BusOwner(pi, PORTS[:2], antenna_group=group)
    wanted, heard = [], []
    for number in range(8):
        for place, port in enumerate(PORTS[:2]):
            pi.enter(port, "classic_1k", uid(place, number))
            wanted.append((port, uid(place, number)))
        heard += owner.reads(0.2)
        for port in PORTS[:2]:
            pi.leave(port)
        heard += owner.reads(0.15)
    assert set(heard) <= set(wanted)
    if group:
        assert sorted(heard) == sorted(wanted)
    else:
        assert len(heard) < len(wanted) // 2


def test_a_card_that_rests_in_a_group_is_one_tap(pi: VirtualPi) -> None:
    pi.order(PORTS[0], "couple", other=PORTS[1])
    owner = BusOwner(pi, PORTS[:2], antenna_group="gate")
    pi.enter(PORTS[0], "ntag", "04a1b2c3d4e5f6")
    assert owner.reads(1.5) == [(PORTS[0], "04a1b2c3d4e5f6")]
    pi.leave(PORTS[0])
    assert owner.hear("CardGone")["reader"] == PORTS[0]
