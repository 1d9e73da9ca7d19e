"""The pins of a Raspberry Pi's header by bus; BCM numbers, the same on every model with 40 pins.

Sources: the SPI and UART pages of the Raspberry Pi documentation and the overlays README of its firmware.
"""

from __future__ import annotations

import re

SPI_LINES = {0: {"MISO": 9, "MOSI": 10, "SCLK": 11}, 1: {"MISO": 19, "MOSI": 20, "SCLK": 21}}
SPI_SELECTS = {0: {0: 8, 1: 7}, 1: {0: 18, 1: 17, 2: 16}}
I2C_LINES = {"SDA": 2, "SCL": 3}
UART_LINES = {"TXD": 14, "RXD": 15}
# The header's first UART; the numbers of others depend on the model and its overlays.
_UART_PORTS = frozenset({"/dev/serial0", "/dev/ttyAMA0", "/dev/ttyS0"})
_SPI_PORT = re.compile(r"/dev/spidev(\d+)\.(\d+)")


def pins_of(port: str) -> dict[int, str]:
    """Return the pins that a port occupies and what each is called; none for a port that is not on the header."""
    if port in _UART_PORTS:
        return {pin: f"UART {line}" for line, pin in UART_LINES.items()}
    place = _SPI_PORT.fullmatch(port)
    if place is None:
        return {}
    bus, select = int(place[1]), int(place[2])
    pins = {pin: f"SPI{bus} {line}" for line, pin in SPI_LINES.get(bus, {}).items()}
    # Further chip selects are whatever pins their overlay was given.
    if select in SPI_SELECTS.get(bus, {}):
        pins[SPI_SELECTS[bus][select]] = f"SPI{bus} chip select {select}"
    return pins
