"""Finds pins of the header that are used twice, in the configuration, before anything is driven.

Several rc522 readers may share a reset wire, with a warning: their driver pulls it only when a chip does not answer at
all, at most three times an outage, and a neighbour that lost its settings is set up again within one poll, about 10 ms;
a card resting on it stays one tap. Every other pin has one owner. A shared interrupt wire could not be attributed to a
reader, and the driver `mfrc522` pulls reset at every start and cannot detect lost settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config import GatewaySettings
from gateway.transports.header import pins_of

_POINT_KEYS = ("strike_gpio", "contact_gpio", "rex_gpio")
_EDGE_KEYS = ("d0_gpio", "d1_gpio")
_READER_KEYS = ("reset_gpio", "irq_gpio", *_EDGE_KEYS)
_HEADER = "gpiochip:header"


_POINTS, _RESETS = "points", "reset"


@dataclass(frozen=True, slots=True)
class _Claim:
    """One use of a pin; claims with the same `beside` may share it."""

    what: str
    beside: str = ""


def check_pins(settings: GatewaySettings, options: Mapping[str, Any]) -> None:
    """Note every pin that is used twice as a problem of `settings.file`, a shared reset wire as a warning.

    Args:
        options: of each reader that has good ones, by its id.
    """
    claims: dict[int, _Claim] = {}
    for reader in settings.readers:
        for pin, line in pins_of(reader.port).items():
            claims.setdefault(pin, _Claim(f"{line} of reader {reader.id!r}"))

    def claim(place: str, key: str, pin: int | None, owner: str, beside: str) -> None:
        holder = claims.setdefault(pin, _Claim(f"{key} of {owner}", beside)) if pin is not None else None
        if holder is None or holder.what == f"{key} of {owner}" or holder.beside == beside == _POINTS:
            return  # two points on one pin are reported where points are read
        if holder.beside == beside == _RESETS:
            settings.file.warn(
                f"{place}.{key}",
                f"GPIO {pin} is also {holder.what}: while one does not answer, pulling it resets the other, at most "
                "three times an outage and about 10 ms each; a separate pin avoids that",
            )
            return
        settings.file.problem(
            f"{place}.{key}", f"GPIO {pin} is already {holder.what}; give one of the two another pin, and its wire"
        )

    for number, point in enumerate(settings.points):
        for key in _POINT_KEYS:
            claim(f"point.{number}", key, getattr(point, key), f"point {point.id!r}", _POINTS)
    for reader in settings.readers:
        for key in _READER_KEYS:
            if key in _EDGE_KEYS and reader.port != _HEADER:
                continue  # pins of another controller
            beside = _RESETS if (reader.driver, key) == ("rc522", "reset_gpio") else ""
            claim(reader.place, key, getattr(options.get(reader.id), key, None), f"reader {reader.id!r}", beside)
