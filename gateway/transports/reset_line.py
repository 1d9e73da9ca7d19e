"""The reset pin of a chip, through the RPi.GPIO API; active low."""

from __future__ import annotations

import time
from typing import Any, Protocol

from gateway.errors import MissingExtra, ReaderOffline

_LOW_SECONDS = 0.001
_RISE_SECONDS = 0.005


class ResetLine(Protocol):
    def pulse(self) -> None:
        """Hold the chip in reset for a moment; other chips on the same wire lose their settings too.

        Raises:
            ReaderOffline: the pin cannot be driven.
            MissingExtra: there is no RPi.GPIO.
        """
        ...


class GpioResetLine:
    """A reset pin by its BCM number."""

    def __init__(self, gpio: int) -> None:
        self._gpio = gpio

    def pulse(self) -> None:
        api = self._api()
        try:
            if api.getmode() is None:
                api.setmode(api.BCM)
            api.setup(self._gpio, api.OUT, initial=api.LOW)
            time.sleep(_LOW_SECONDS)
            api.output(self._gpio, api.HIGH)
            time.sleep(_RISE_SECONDS)
        except (RuntimeError, OSError, ValueError) as error:
            raise ReaderOffline(f"The reset pin GPIO {self._gpio} cannot be driven ({error}).") from None

    @staticmethod
    def _api() -> Any:
        try:
            from RPi import GPIO  # noqa: PLC0415  # no pin configured, no GPIO import
        except (ImportError, RuntimeError) as error:
            raise MissingExtra(f"reset_gpio needs RPi.GPIO ({error}); install tapgate[pi] on a Raspberry Pi.") from None
        return GPIO
