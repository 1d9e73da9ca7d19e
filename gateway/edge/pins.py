"""Two things on one pin of the header: found in the configuration, before anything is driven.

A reset wire that several rc522 readers share is allowed and told: their driver pulls it only when a chip does not
answer at all, at most three times an outage, and a neighbour that lost its settings is set up again within one look,
about 10 ms; a card that rests there stays one tap. Every other pin has one owner. An interrupt wire would not
say whose edge it was; the driver `mfrc522` pulls reset at every start and could not tell that it lost its settings.
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
    """What hangs on a pin; claims with the same `beside` may hang there together."""

    what: str
    beside: str = ""


def check_pins(settings: GatewaySettings, options: Mapping[str, Any]) -> None:
    """Note every pin that is wanted twice as a problem of `settings.file`, a shared reset wire as a warning.

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
            return  # two points on one pin are told where points are read
        if holder.beside == beside == _RESETS:
            settings.file.warn(
                f"{place}.{key}",
                f"GPIO {pin} is {holder.what} too: while one of them does not answer, pulling it sets up the other "
                "afresh, at most three times an outage and about 10 ms each; a pin of its own avoids that",
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
                continue  # the pins of another controller
            beside = _RESETS if (reader.driver, key) == ("rc522", "reset_gpio") else ""
            claim(reader.place, key, getattr(options.get(reader.id), key, None), f"reader {reader.id!r}", beside)
