from __future__ import annotations

import threading
from typing import Any

import pytest

from gateway.errors import OutputFailed
from gateway.outputs.base import Switchboard
from gateway.outputs.gpio import GpioPins, load_gpio
from gateway.points.actions import Done, Failed, Lock, Record, Show, Signal, Tell, Unlock


class _Gpio:
    """The RPi.GPIO calls that are used, on a dictionary; tests/virtual_pi runs the real package."""

    LOW, HIGH, OUT, IN, PUD_UP = 0, 1, "out", "in", "up"

    def __init__(self) -> None:
        self.levels: dict[int, int] = {}
        self.changed = threading.Condition()
        self.cleaned: list[int] = []
        self.broken = False

    def setup(self, pin: int, mode: str, initial: int | None = None, pull_up_down: str | None = None) -> None:
        if pin == 26:
            raise ValueError("The channel sent is invalid on a Raspberry Pi")
        self.levels[pin] = 1 if pull_up_down else initial or 0

    def output(self, pin: int, level: int) -> None:
        if self.broken:
            raise RuntimeError("no access to /dev/gpiomem")
        with self.changed:
            self.levels[pin] = level
            self.changed.notify_all()

    def input(self, pin: int) -> int:
        return self.levels[pin]

    def cleanup(self, pin: int) -> None:
        self.cleaned.append(pin)

    def wait_for(self, pin: int, level: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.levels[pin] == level, 5)


@pytest.fixture
def gpio() -> _Gpio:
    return _Gpio()


def test_a_strike_is_locked_from_the_moment_its_pin_is_claimed(gpio: _Gpio) -> None:
    pins = GpioPins(gpio)
    pins.strike(17, active_low=False)
    pins.strike(18, active_low=True)
    assert gpio.levels == {17: 0, 18: 1}
    pins.close()
    assert gpio.cleaned == [17, 18]


def test_a_strike_releases_by_itself_when_nobody_releases_it(gpio: _Gpio) -> None:
    pins = GpioPins(gpio)
    strike = pins.strike(17, active_low=False)
    strike.unlock(0.05)
    assert gpio.levels[17] == 1
    assert gpio.wait_for(17, 0)
    pins.close()


def test_closing_locks_what_is_still_unlocked(gpio: _Gpio) -> None:
    pins = GpioPins(gpio)
    pins.strike(17, active_low=False).unlock(60)
    pins.close()
    assert gpio.levels[17] == 0


def test_a_contact_says_what_its_level_means(gpio: _Gpio) -> None:
    pins = GpioPins(gpio)
    door, button = pins.contact(27, high_means=True), pins.contact(22, high_means=False)
    assert door.read()
    assert not button.read()
    gpio.levels[22] = 0
    assert button.read()
    pins.close()


def test_a_pin_that_cannot_be_claimed_is_named(gpio: _Gpio) -> None:
    pins = GpioPins(gpio)
    with pytest.raises(OutputFailed, match="GPIO 26"):
        pins.strike(26, active_low=False)
    pins.close()


def test_without_a_raspberry_pi_the_message_says_what_to_do() -> None:
    with pytest.raises(OutputFailed, match="remove the pins"):
        load_gpio()


def test_the_switchboard_takes_each_action_to_its_hand_and_never_raises(gpio: _Gpio) -> None:
    pins = GpioPins(gpio)
    told: list[Any] = []
    board = Switchboard(
        {"front": pins.strike(17, active_low=False)},
        lambda reader, signal: told.append((reader, signal)) or True,
        told.append,
    )
    show = Show("front", "door")
    assert [board.perform(action) for action in (Unlock("front", 5), Tell("r", Signal.GRANTED), show)] == [Done()] * 3
    assert gpio.levels[17] == 1
    assert told == [("r", Signal.GRANTED), show]
    assert isinstance(board.perform(Record("door", "front")), Failed)
    assert board.perform(Unlock("a point without a strike", 5)) == Done()
    gpio.broken = True
    outcome = board.perform(Lock("front"))
    assert isinstance(outcome, Failed)
    assert "GPIO 17" in outcome.why
    gpio.broken = False
    pins.close()


def test_a_hand_that_fails_in_an_unforeseen_way_does_not_end_the_bus_thread() -> None:
    def broken(_show: Show) -> None:
        raise KeyError("x")

    board = Switchboard({}, lambda _reader, _signal: False, broken)
    assert board.perform(Show("lane", "lane")) == Failed("An output failed: KeyError.")
