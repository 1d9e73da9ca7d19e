"""The thread that runs the timers of points and watches door contacts and REX buttons."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway.edge.tapline import Seat, Tapline
from gateway.points.door import Cause, Door
from gateway.service import Beats

log = logging.getLogger(__name__)

CONTACT_SECONDS = 0.02
_IDLE_SECONDS = 1.0


class Contact(Protocol):
    """A door contact or a REX button; True when the door is open or the button pressed, None while it is unread."""

    def read(self) -> bool | None: ...


@dataclass(slots=True)
class DoorWiring:
    """What is wired to one door; None where nothing is."""

    contact: Contact | None = None
    rex: Contact | None = None
    rex_was: bool = False


class PointsLoop:
    """Ticks every point at its deadline and reads contacts every CONTACT_SECONDS.

    A contact must read the same twice in a row before it counts, which takes the bounce out of it.
    """

    def __init__(
        self, seats: Mapping[str, Seat], wirings: Mapping[str, DoorWiring], tapline: Tapline, beats: Beats
    ) -> None:
        self._seats, self._wirings, self._tapline, self._beats = seats, wirings, tapline, beats
        self._wake = threading.Event()
        self._stopping = False
        self._last_open: dict[str, bool] = {}
        self._failed: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="points", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def poke(self) -> None:
        """Re-evaluate the deadlines; callable from any thread."""
        self._wake.set()

    def _run(self) -> None:
        beat = self._beats.register("points", 15.0)
        while not self._stopping:
            beat()
            self._turn()
            self._wake.wait(self._pause())
            self._wake.clear()
        self._beats.forget("points")

    def _turn(self) -> None:
        now = time.monotonic()
        for name, seat in self._seats.items():
            # Each step is isolated: a failing input must not keep this door, or the next, from being secured.
            deadline = seat.point.deadline
            if deadline is not None and now >= deadline:
                self._guarded(name, partial(self._tapline.work, seat, partial(seat.point.tick, now)))
            wiring = self._wirings.get(name)
            if wiring is not None and isinstance(seat.point, Door):
                self._guarded(name, partial(self._read_wiring, seat, seat.point, wiring, now))

    def _guarded(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            # At fifty turns a second, log the same failure only once.
            if self._failed.get(name) != repr(error):
                log.exception("a turn of point %s failed", name)
            self._failed[name] = repr(error)

    def _read_wiring(self, seat: Seat, door: Door, wiring: DoorWiring, now: float) -> None:
        if wiring.contact is not None:
            is_open = wiring.contact.read()
            if is_open is None:
                self._last_open.pop(door.name, None)
            else:
                if self._last_open.get(door.name) is is_open:
                    self._tapline.work(seat, partial(door.on_contact, is_open, now))
                self._last_open[door.name] = is_open
        if wiring.rex is not None:
            pressed = wiring.rex.read() or False
            if pressed and not wiring.rex_was:
                self._tapline.work(seat, partial(door.happen, Cause.REX, now))
            wiring.rex_was = pressed

    def _pause(self) -> float:
        if self._wirings:
            return CONTACT_SECONDS
        deadlines = [seat.point.deadline for seat in self._seats.values()]
        soonest = min((deadline for deadline in deadlines if deadline is not None), default=None)
        return _IDLE_SECONDS if soonest is None else max(0.0, min(_IDLE_SECONDS, soonest - time.monotonic()))
