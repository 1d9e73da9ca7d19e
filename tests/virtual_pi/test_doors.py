"""The whole daemon and the guard drive a lock's pin: real RPi.GPIO on a Pi 4, the real gpiod package on a Pi 5."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator.demo_site import fetch, free_port
from gateway.simulator.virtual_pi import VirtualPi, missing

pytestmark = [
    pytest.mark.virtual_pi,
    pytest.mark.skipif(bool(missing()), reason=f"the virtual Pi {missing()}"),
    pytest.mark.xdist_group("virtual_pi_daemon"),
]

STRIKE, REX = 17, 22
CONFIG = """
[gateway]
id = "gw"
site = "st"
state_dir = "state"
site_key_file = "site.key"
[web]
port = {port}
[[point]]
id = "front"
kind = "door"
strike_gpio = 17
strike_active_low = {active_low}
rex_gpio = 22
unlock_seconds = 60
lock = "{lock}"
egress = "{egress}"
"""


@pytest.fixture(params=["pi4", "pi5"])
def pi(request: pytest.FixtureRequest) -> Iterator[VirtualPi]:
    with VirtualPi((), ioctl_us=0, transfer_us=0, board=request.param) as made:
        made.gpio.drive(REX, high=True)
        yield made


class Door:
    """`tapgate run` with one door, and `tapgate guard` beside it."""

    def __init__(self, pi: VirtualPi, folder: Path, **settings: Any) -> None:
        self._pi, self._folder, self._port = pi, folder, free_port(0)
        (folder / "site.key").write_text("ab" * 32, encoding="ascii")
        (folder / "gateway.toml").write_text(CONFIG.format(port=self._port, **settings), encoding="utf-8")

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gateway", "run", "--config", str(self._folder / "gateway.toml")]
        return self._pi.spawn(command)

    def guard(self) -> int:
        file = str(self._folder / "state" / "doors.json")
        return self._pi.spawn([sys.executable, "-m", "gateway", "guard", file], stdout=subprocess.DEVNULL).wait(20)

    def press_rex(self) -> None:
        self._pi.gpio.drive(REX, high=False)

    def release_rex(self) -> None:
        self._pi.gpio.drive(REX, high=True)

    def view(self) -> dict[str, Any] | None:
        return fetch(f"http://127.0.0.1:{self._port}/v1/status")


def _is(pi: VirtualPi, *, high: bool) -> None:
    pi.gpio.wait_for(STRIKE, high=high, timeout_seconds=15)


@pytest.mark.parametrize(
    ("lock", "egress", "active_low", "secured", "without"),
    [
        ("fail-secure", "mechanical", "false", False, False),
        ("fail-secure", "mechanical", "true", True, True),
        ("fail-safe", "mechanical", "false", True, True),
        ("fail-safe", "breakglass", "false", True, False),
        ("fail-safe", "breakglass", "true", False, True),
    ],
)
def test_a_door_has_its_level_running_released_stopped_killed_and_at_boot(
    pi: VirtualPi, tmp_path: Path, lock: str, egress: str, active_low: str, secured: bool, without: bool
) -> None:
    door = Door(pi, tmp_path, lock=lock, egress=egress, active_low=active_low)
    daemon = door.start()
    _is(pi, high=secured)
    _until_output(pi)
    _until_running(door)
    door.press_rex()
    _is(pi, high=not secured)
    door.release_rex()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0
    _is(pi, high=without)
    assert pi.gpio.is_output(STRIKE)

    daemon = door.start()
    _is(pi, high=secured)
    # The strike may have this level from before; the button is heard once the daemon runs.
    _until_running(door)
    door.press_rex()
    _is(pi, high=not secured)
    daemon.kill()
    daemon.wait(20)
    # Without the guard the pin stays as the daemon left it.
    assert pi.gpio.level(STRIKE) is not secured
    door.release_rex()
    assert door.guard() == 0
    assert pi.gpio.level(STRIKE) is without

    # After a power cut the registers are as the hardware has them, and the daemon is not there yet.
    pi.gpio.drive(STRIKE, high=not without)
    assert door.guard() == 0
    assert pi.gpio.level(STRIKE) is without


def _until_running(door: Door) -> None:
    deadline = time.monotonic() + 30
    while not door.view():
        assert time.monotonic() < deadline, "the daemon shows no status"
        time.sleep(0.05)


def _until_output(pi: VirtualPi) -> None:
    deadline = time.monotonic() + 15
    while not pi.gpio.is_output(STRIKE):
        assert time.monotonic() < deadline, "the strike's pin was not claimed"
        time.sleep(0.01)


def test_a_pin_that_another_program_holds_costs_the_door_until_it_is_free(tmp_path: Path) -> None:
    with VirtualPi((), ioctl_us=0, transfer_us=0, board="pi5") as pi:
        pi.gpio.drive(REX, high=True)
        program = (
            "import gpiod, sys; s = gpiod.LineSettings(direction=gpiod.line.Direction.OUTPUT); "
            "r = gpiod.request_lines('/dev/gpiochip4', consumer='heating', config={17: s}); "
            "print('held', flush=True); sys.stdin.readline()"
        )
        other = pi.spawn([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        door = Door(pi, tmp_path, lock="fail-secure", egress="mechanical", active_low="false")
        daemon = door.start()
        deadline = time.monotonic() + 20
        while not (view := door.view()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert view["output_fault"].startswith("front: GPIO 17 cannot be an output: the program 'heating' is using it")
        other.stdin.write("\n")
        other.stdin.flush()
        other.wait(10)
        door.press_rex()
        pi.gpio.wait_for(STRIKE, high=True, timeout_seconds=15)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0
