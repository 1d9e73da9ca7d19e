from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import GpioFault, OutputFailed
from gateway.outputs.base import Switchboard
from gateway.outputs.gpio import GpioPins
from gateway.points.actions import Done, Failed, Record, Show, Signal, Tell, Unlock
from gateway.points.actions import Lock as LockAction
from gateway.points.lock import Egress, Lock, LockKind
from gateway.transports.gpio import Header, RpiGpioHeader

STRIKE = Lock()
MAGLOCK = Lock(LockKind.FAIL_SAFE, Egress.BREAKGLASS)
HELD_MAGLOCK = Lock(LockKind.FAIL_SAFE, Egress.MECHANICAL)


class Gpio:
    """The RPi.GPIO calls that are used, on a dictionary; tests/virtual_pi runs the real package."""

    BCM, LOW, HIGH, OUT, IN, PUD_UP = 11, 0, 1, "out", "in", "up"

    def __init__(self) -> None:
        self.levels: dict[int, int] = {}
        self.changed = threading.Condition()
        self.cleaned: list[int] = []
        self.broken: Exception | None = None
        self.taken: set[int] = set()

    def setwarnings(self, _on: bool) -> None: ...

    def setmode(self, _mode: int) -> None: ...

    def setup(self, pin: int, mode: str, initial: int | None = None, pull_up_down: str | None = None) -> None:
        if pin in self.taken:
            raise LgpioError("GPIO busy")
        self.levels[pin] = 1 if pull_up_down else initial or 0

    def output(self, pin: int, level: int) -> None:
        if self.broken:
            raise self.broken
        with self.changed:
            self.levels[pin] = level
            self.changed.notify_all()

    def input(self, pin: int) -> int:
        if self.broken:
            raise self.broken
        return self.levels[pin]

    def cleanup(self, pin: int) -> None:
        self.cleaned.append(pin)

    def wait_for(self, pin: int, level: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.levels[pin] == level, 5)


class LgpioError(Exception):
    """As lgpio.error: neither RuntimeError, ValueError nor OSError."""


@pytest.fixture
def gpio() -> Gpio:
    return Gpio()


def opener(gpio: Gpio) -> Callable[[], Header]:
    return lambda: RpiGpioHeader(gpio)


@pytest.mark.parametrize(
    ("lock", "secured", "released", "stopped"),
    [
        (STRIKE, 0, 1, 0),
        (Lock(active_low=True), 1, 0, 1),
        (MAGLOCK, 1, 0, 0),
        (HELD_MAGLOCK, 1, 0, 1),
        (Lock(LockKind.FAIL_SAFE, Egress.BREAKGLASS, active_low=True), 0, 1, 1),
    ],
)
def test_each_lock_has_its_level_secured_released_and_stopped(
    gpio: Gpio, lock: Lock, secured: int, released: int, stopped: int
) -> None:
    pins = GpioPins(opener(gpio))
    strike = pins.strike("front", 17, lock)
    assert gpio.levels[17] == secured
    strike.unlock(60)
    assert gpio.levels[17] == released
    strike.lock()
    assert gpio.levels[17] == secured
    pins.close()
    # The pin stays an output: as an input it would float, and a relay board might read that as released.
    assert (gpio.levels[17], gpio.cleaned) == (stopped, [])


def test_a_strike_secures_by_itself_when_nobody_secures_it(gpio: Gpio) -> None:
    pins = GpioPins(opener(gpio))
    strike = pins.strike("front", 17, STRIKE)
    strike.unlock(0.05)
    assert gpio.levels[17] == 1
    assert gpio.wait_for(17, 0)
    pins.close()


def test_a_contact_says_what_its_level_means_and_is_given_back(gpio: Gpio) -> None:
    pins = GpioPins(opener(gpio))
    door, button = pins.contact("front", 27, high_means=True), pins.contact("front", 22, high_means=False)
    assert door.read() is True
    assert button.read() is False
    gpio.levels[22] = 0
    assert button.read() is True
    pins.close()
    assert gpio.cleaned == [27, 22]


def test_a_pin_that_another_program_holds_is_a_fault_of_its_point_and_works_when_it_is_free(gpio: Gpio) -> None:
    gpio.taken = {17, 27}
    pins = GpioPins(opener(gpio))
    strike, other = pins.strike("front", 17, STRIKE), pins.strike("back", 18, STRIKE)
    contact = pins.contact("front", 27, high_means=True)
    assert [fault.partition(":")[0] for fault in pins.faults] == ["front", "front"]
    assert "GPIO busy" in pins.faults[0]
    assert contact.read() is None
    other.unlock(60)
    assert gpio.levels[18] == 1
    with pytest.raises(OutputFailed, match="front: GPIO 17"):
        strike.unlock(60)
    gpio.taken = set()
    strike.unlock(60)
    assert gpio.levels[17] == 1
    contact._claim_at = 0.0
    assert contact.read() is True
    assert pins.faults == []
    pins.close()


@pytest.mark.parametrize("error", [LgpioError("gone"), OSError("I/O"), KeyError(17), RuntimeError("no access")])
def test_any_error_of_the_package_costs_that_output_only(gpio: Gpio, error: Exception) -> None:
    pins = GpioPins(opener(gpio))
    strike = pins.strike("front", 17, STRIKE)
    contact = pins.contact("front", 27, high_means=True)
    gpio.broken = error
    with pytest.raises(OutputFailed, match="GPIO 17 cannot be driven"):
        strike.unlock(5)
    assert contact.read() is None
    assert len(pins.faults) == 2
    gpio.broken = None
    pins.close()


def test_without_a_header_each_point_has_its_fault_and_nothing_raises() -> None:
    def nothing() -> Header:
        raise GpioFault("GPIO does not work here.")

    pins = GpioPins(nothing)
    strike = pins.strike("front", 17, STRIKE)
    assert pins.contact("front", 27, high_means=True).read() is None
    assert pins.faults == ["front: GPIO does not work here."] * 2
    with pytest.raises(OutputFailed):
        strike.lock()
    pins.close()


def test_the_switchboard_takes_each_action_to_its_hand_and_never_raises(gpio: Gpio) -> None:
    pins = GpioPins(opener(gpio))
    told: list[Any] = []
    board = Switchboard(
        {"front": pins.strike("front", 17, STRIKE)},
        lambda reader, signal: told.append((reader, signal)) or True,
        told.append,
    )
    show = Show("front", "door")
    assert [board.perform(action) for action in (Unlock("front", 5), Tell("r", Signal.GRANTED), show)] == [Done()] * 3
    assert gpio.levels[17] == 1
    assert told == [("r", Signal.GRANTED), show]
    assert isinstance(board.perform(Record("door", "front")), Failed)
    assert board.perform(Unlock("a point without a strike", 5)) == Done()
    gpio.broken = RuntimeError("no access to /dev/gpiomem")
    outcome = board.perform(LockAction("front"))
    assert isinstance(outcome, Failed)
    assert "GPIO 17" in outcome.why
    gpio.broken = None
    pins.close()


def test_a_hand_that_fails_in_an_unforeseen_way_does_not_end_the_bus_thread() -> None:
    def broken(_show: Show) -> None:
        raise KeyError("x")

    board = Switchboard({}, lambda _reader, _signal: False, broken)
    assert board.perform(Show("lane", "lane")) == Failed("An output failed: KeyError.")
