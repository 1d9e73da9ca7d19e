"""A contact that fails keeps neither its own door from being secured nor any other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from gateway.edge.points_loop import DoorWiring, PointsLoop
from gateway.edge.tapline import Seat
from gateway.points.actions import Action, Lock
from gateway.points.door import Cause, Door
from gateway.service import Beats


class _Tapline:
    def __init__(self) -> None:
        self.secured: list[str] = []
        self.changed = threading.Condition()

    def work(self, _seat: Seat, decide: Callable[[], list[Action]]) -> bool:
        actions = decide()
        with self.changed:
            self.secured += [action.point for action in actions if isinstance(action, Lock)]
            self.changed.notify_all()
        return False


class _Contact:
    def __init__(self, read: Callable[[], bool | None]) -> None:
        self.read = read


def _fail() -> bool:
    raise OSError("I/O error")


def test_a_failing_contact_costs_neither_its_door_nor_the_next() -> None:
    tapline, beats = _Tapline(), Beats()
    seats = {name: Seat(Door(name, unlock_seconds=0.05)) for name in ("front", "back")}
    wirings = {"front": DoorWiring(contact=_Contact(_fail), rex=_Contact(_fail))}
    loop = PointsLoop(seats, wirings, tapline, beats)  # type: ignore[arg-type]
    for seat in seats.values():
        assert isinstance(seat.point, Door)
        seat.point.happen(Cause.GRANT, time.monotonic())
    loop.start()
    with tapline.changed:
        assert tapline.changed.wait_for(lambda: set(tapline.secured) == {"front", "back"}, 5)
    loop.stop()


def test_a_contact_that_is_unread_says_nothing_about_the_leaf() -> None:
    tapline, levels = _Tapline(), [None, True, None, True, True]
    read = threading.Event()

    def next_level() -> bool | None:
        level = levels.pop(0) if levels else None
        if not levels:
            read.set()
        return level

    door = Door("front")
    loop = PointsLoop({"front": Seat(door)}, {"front": DoorWiring(_Contact(next_level))}, tapline, Beats())  # type: ignore[arg-type]
    loop.start()
    assert read.wait(5)
    loop.stop()
    # Twice the same in a row, and an unread look in between does not count as one.
    assert door.state == "forced_open"
