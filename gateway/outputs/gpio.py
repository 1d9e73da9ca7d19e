"""Strikes, door contacts and REX buttons on the Pi's header, through the RPi.GPIO API.

On a Pi up to 4 that API is RPi.GPIO, on a Pi 5 rpi-lgpio, which has the same names. All numbers are BCM numbers. Only
pins that were claimed here are ever cleaned up, because other programs and readers use their own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from gateway.errors import OutputFailed

log = logging.getLogger(__name__)


def load_gpio() -> Any:
    """Import the RPi.GPIO API.

    Raises:
        OutputFailed: no such package, or this is not a Raspberry Pi.
    """
    try:
        from RPi import GPIO  # noqa: PLC0415  # importing touches the hardware; only doors with pins may do it
    except (ImportError, RuntimeError) as error:
        raise OutputFailed(
            f"GPIO pins are configured, but GPIO does not work here ({error}); "
            "install the extra 'pi' (Pi 5: 'pi5') on a Raspberry Pi, or remove the pins."
        ) from None
    GPIO.setwarnings(False)
    GPIO.setmode(GPIO.BCM)
    return GPIO


class GpioPins:
    """The pins that this process has claimed, and the thread that releases a strike nobody released.

    A strike is armed to release twice: by the door's own timer, and here a quarter second later, so that a daemon that
    lost its door thread still does not leave a door unlocked.
    """

    _GRACE_SECONDS = 0.25

    def __init__(self, gpio: Any) -> None:
        self._gpio = gpio
        self._claimed: list[int] = []
        self._strikes: list[GpioStrike] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._release_overdue, name="strike-guard", daemon=True)
        self._thread.start()

    def strike(self, pin: int, *, active_low: bool) -> GpioStrike:
        """Claim a pin as a strike, locked from this moment on.

        Raises:
            OutputFailed: the pin cannot be an output.
        """
        on, off = (self._gpio.LOW, self._gpio.HIGH) if active_low else (self._gpio.HIGH, self._gpio.LOW)
        try:
            self._gpio.setup(pin, self._gpio.OUT, initial=off)
        except (RuntimeError, ValueError, OSError) as error:
            raise OutputFailed(f"GPIO {pin} cannot be an output ({error}).") from None
        self._claimed.append(pin)
        strike = GpioStrike(self._gpio, pin, on, off, self)
        self._strikes.append(strike)
        return strike

    def contact(self, pin: int, *, high_means: bool) -> GpioContact:
        """Claim a pin as a contact, pulled up, so that a cut wire reads as high.

        Args:
            high_means: what the contact says while the pin is high.

        Raises:
            OutputFailed: the pin cannot be an input.
        """
        try:
            self._gpio.setup(pin, self._gpio.IN, pull_up_down=self._gpio.PUD_UP)
        except (RuntimeError, ValueError, OSError) as error:
            raise OutputFailed(f"GPIO {pin} cannot be an input ({error}).") from None
        self._claimed.append(pin)
        return GpioContact(self._gpio, pin, high_means)

    def expect_release(self) -> None:
        """Tell the guard that a strike was asserted."""
        with self._wake:
            self._wake.notify()

    def close(self) -> None:
        """Lock every strike and return the claimed pins back."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(2)
        for strike in self._strikes:
            try:
                strike.lock()
            except OutputFailed as error:
                log.warning("%s", error)
        for pin in self._claimed:
            self._gpio.cleanup(pin)

    def _release_overdue(self) -> None:
        while True:
            with self._wake:
                if self._closed:
                    return
                dues = [strike.release_at for strike in self._strikes if strike.release_at is not None]
                self._wake.wait(min(dues) + self._GRACE_SECONDS - time.monotonic() if dues else None)
            for strike in self._strikes:
                due = strike.release_at
                if due is not None and time.monotonic() >= due + self._GRACE_SECONDS:
                    log.error("the strike on GPIO %d was not released in time by its door; released now", strike.pin)
                    with contextlib.suppress(OutputFailed):
                        strike.lock()


class GpioStrike:
    """A strike on one pin; `release_at` is CLOCK_MONOTONIC seconds while it is asserted."""

    def __init__(self, gpio: Any, pin: int, on: int, off: int, pins: GpioPins) -> None:
        self._gpio, self.pin, self._on, self._off, self._pins = gpio, pin, on, off, pins
        self.release_at: float | None = None

    def unlock(self, unlock_seconds: float) -> None:
        self._write(self._on)
        self.release_at = time.monotonic() + unlock_seconds
        self._pins.expect_release()

    def lock(self) -> None:
        self.release_at = None
        self._write(self._off)

    def _write(self, level: int) -> None:
        try:
            self._gpio.output(self.pin, level)
        except (RuntimeError, ValueError, OSError) as error:
            raise OutputFailed(f"GPIO {self.pin} cannot be driven ({error}); the strike may not move.") from None


@dataclass(frozen=True, slots=True)
class GpioContact:
    """A contact on one pin."""

    _gpio: Any
    _pin: int
    _high_means: bool

    def read(self) -> bool:
        """Return whether the contact says what it is named for: door open, button pressed."""
        return bool(self._gpio.input(self._pin)) is self._high_means
