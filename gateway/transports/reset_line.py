"""The reset pin of a chip; active low."""

from __future__ import annotations

import time
from typing import Protocol

from gateway.errors import GpioFault, ReaderOffline
from gateway.transports.gpio import Header, open_header

_LOW_SECONDS = 0.001
_RISE_SECONDS = 0.005


class ResetLine(Protocol):
    def pulse(self) -> None:
        """Hold the chip in reset for a moment; other chips on the same wire lose their settings too.

        Raises:
            ReaderOffline: the pin cannot be driven.
        """
        ...


class GpioResetLine:
    """A reset pin by its BCM number."""

    def __init__(self, gpio: int) -> None:
        self._gpio = gpio
        self._header: Header | None = None

    def pulse(self) -> None:
        try:
            if self._header is None:
                self._header = open_header()
            self._header.claim_output(self._gpio, high=False)
            time.sleep(_LOW_SECONDS)
            self._header.write(self._gpio, high=True)
            time.sleep(_RISE_SECONDS)
        except GpioFault as error:
            raise ReaderOffline(f"The reset pin GPIO {self._gpio} cannot be driven: {error}") from None
