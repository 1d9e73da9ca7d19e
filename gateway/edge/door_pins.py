"""The GPIO pins of a gateway's doors: strikes, door contacts and exit buttons."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import PointSettings
from gateway.edge.points_loop import DoorWiring
from gateway.edge.startup import lock_of
from gateway.outputs.base import Strike
from gateway.outputs.gpio import GpioPins


class DoorPins:
    """Claims the pins that the points name; the GPIO chip is opened only when a point names one."""

    def __init__(self, points: Sequence[PointSettings]) -> None:
        self._points = points
        self._pins: GpioPins | None = None

    @property
    def fault(self) -> str | None:
        """Return what does not work at doors, None when all does."""
        return "; ".join(self._pins.faults) or None if self._pins else None

    def claim_strikes(self) -> dict[str, Strike]:
        """Return the strike of every point that has one, by point id."""
        return {
            item.id: self._open().strike(item.id, item.strike_gpio, lock_of(item))
            for item in self._points
            if item.strike_gpio is not None
        }

    def claim_inputs(self) -> dict[str, DoorWiring]:
        """Return the door contact and exit button of every point that has either, by point id."""
        wirings: dict[str, DoorWiring] = {}
        for item in self._points:
            wiring = DoorWiring()
            if item.contact_gpio is not None:
                wiring.contact = self._open().contact(item.id, item.contact_gpio, high_means=item.contact_open_high)
            if item.rex_gpio is not None:
                wiring.rex = self._open().contact(item.id, item.rex_gpio, high_means=False)
            if wiring.contact or wiring.rex:
                wirings[item.id] = wiring
        return wirings

    def close(self) -> None:
        """Drive every lock to its state without a daemon and release the pins."""
        if self._pins:
            self._pins.close()

    def _open(self) -> GpioPins:
        if self._pins is None:
            self._pins = GpioPins()
        return self._pins
