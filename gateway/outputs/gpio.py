"""Strikes, maglocks, door contacts and REX buttons on the Pi's header.

All numbers are BCM numbers. A pin that cannot be claimed or driven affects that output only: it is retried at the next
use, so that a pin held by another program works as soon as it is free.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

from gateway.errors import GpioFault, OutputFailed
from gateway.points.lock import Lock, Situation
from gateway.transports.gpio import Header, open_header

log = logging.getLogger(__name__)


class GpioPins:
    """The pins claimed by this process, and the thread that secures a lock its door did not secure.

    A lock is armed to secure twice: by the door's own timer, and here a quarter second later, so that a daemon that
    lost its door thread still does not leave a door released.
    """

    _GRACE_SECONDS = 0.25

    def __init__(self, open_pins: Callable[[], Header] = open_header) -> None:
        self._open_pins = open_pins
        self._header: Header | None = None
        self._inputs: list[int] = []
        self._strikes: list[GpioStrike] = []
        self._faults: dict[str, str] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._release_overdue, name="strike-guard", daemon=True)
        self._thread.start()

    @property
    def faults(self) -> list[str]:
        """Return the current faults, one sentence per output or contact, each beginning with its point."""
        return list(self._faults.values())

    @property
    def header(self) -> Header:
        """Return the header, opened on first use.

        Raises:
            GpioFault: nothing drives the pins of this machine.
        """
        if self._header is None:
            self._header = self._open_pins()
            log.info("the pins of the header are driven by %s", self._header.name)
        return self._header

    def strike(self, point: str, pin: int, lock: Lock) -> GpioStrike:
        """Claim a pin as the lock of a point, secured from this moment on; a failure is a fault, not an error."""
        strike = GpioStrike(self, point, pin, lock)
        self._strikes.append(strike)
        with contextlib.suppress(OutputFailed):
            strike.lock()
        return strike

    def contact(self, point: str, pin: int, *, high_means: bool) -> GpioContact:
        """Claim a pin as a contact; a failure is a fault, not an error.

        Args:
            high_means: the value of the contact while the pin is high.
        """
        contact = GpioContact(self, point, pin, high_means=high_means)
        contact.read()
        return contact

    def expect_release(self) -> None:
        """Tell the guard that a lock was released."""
        with self._wake:
            self._wake.notify()

    def note(self, point: str, pin: int, why: str | None) -> None:
        """Note that a pin does not work, or, with None, that it does; only changes are logged."""
        key = f"{point}: GPIO {pin}"
        if why is None:
            if self._faults.pop(key, None):
                log.info("%s works again", key)
        else:
            if self._faults.get(key) != f"{point}: {why}":
                log.error("%s: %s", point, why)
            self._faults[key] = f"{point}: {why}"

    def claimed_input(self, pin: int) -> None:
        self._inputs.append(pin)

    def close(self) -> None:
        """Drive every lock to its state without a daemon and release the contacts."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(2)
        for strike in self._strikes:
            with contextlib.suppress(OutputFailed):
                strike.rest()
        for pin in self._inputs:
            with contextlib.suppress(GpioFault):
                self.header.release_input(pin)

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
                    log.error("the lock on GPIO %d was not secured in time by its door; secured now", strike.pin)
                    with contextlib.suppress(OutputFailed):
                        strike.lock()


class GpioStrike:
    """The lock of one point; `release_at` is the CLOCK_MONOTONIC second at which it is due to be secured, else None."""

    def __init__(self, pins: GpioPins, point: str, pin: int, lock: Lock) -> None:
        self._pins, self._point, self.pin, self._lock = pins, point, pin, lock
        self._claimed = False
        self.release_at: float | None = None

    def unlock(self, unlock_seconds: float) -> None:
        self._drive(Situation.RELEASED)
        self.release_at = time.monotonic() + unlock_seconds
        self._pins.expect_release()

    def lock(self) -> None:
        self.release_at = None
        self._drive(Situation.SECURED)

    def rest(self) -> None:
        """Drive the pin to its level without a daemon; the pin keeps it after the process ends."""
        self.release_at = None
        self._drive(Situation.STOP)

    def _drive(self, situation: Situation) -> None:
        high = self._lock.is_high(situation)
        try:
            if self._claimed:
                self._pins.header.write(self.pin, high=high)
            else:
                self._pins.header.claim_output(self.pin, high=high)
                self._claimed = True
        except GpioFault as error:
            self._pins.note(self._point, self.pin, str(error))
            raise OutputFailed(f"{self._point}: {error} The lock may not move.") from None
        self._pins.note(self._point, self.pin, None)


class GpioContact:
    """A contact on one pin, pulled up, so that a cut wire reads as high."""

    _CLAIM_AGAIN_SECONDS = 5.0

    def __init__(self, pins: GpioPins, point: str, pin: int, *, high_means: bool) -> None:
        self._pins, self._point, self._pin, self._high_means = pins, point, pin, high_means
        self._claimed = False
        self._claim_at = 0.0

    def read(self) -> bool | None:
        """Return whether the door is open or the button pressed; None while it is unread."""
        if not self._claimed and time.monotonic() < self._claim_at:
            return None
        try:
            if not self._claimed:
                self._pins.header.claim_input(self._pin)
                self._pins.claimed_input(self._pin)
                self._claimed = True
            high = self._pins.header.read(self._pin)
        except GpioFault as error:
            self._claim_at = time.monotonic() + self._CLAIM_AGAIN_SECONDS
            self._pins.note(self._point, self._pin, str(error))
            return None
        self._pins.note(self._point, self._pin, None)
        return high is self._high_means
