"""How soon a reader that was gone is opened again, and that its openings do not hold up its neighbours."""

from __future__ import annotations

from gateway.edge.buses import BusThread
from gateway.errors import ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import ReaderEvent, Vitals
from gateway.service import Beats


class _Clock:
    now_s = 0.0

    def now(self) -> float:
        return self.now_s


class _Reader:
    """A reader whose port is missing until `back`; each opening takes its time."""

    pause_seconds = 0.02

    def __init__(self, name: str, clock: _Clock, opening_seconds: float, *, back: bool) -> None:
        self.name, self.vitals, self.back = name, Vitals(), back
        self._clock, self._opening_seconds = clock, opening_seconds
        self.openings: list[float] = []

    def open(self) -> None:
        self.openings.append(self._clock.now_s)
        self._clock.now_s += self._opening_seconds
        if not self.back:
            raise ReaderOffline("It is not there.")

    def poll(self) -> list[ReaderEvent]:
        return []

    def signal(self, signal: Signal) -> bool:
        del signal
        return False

    def close(self) -> None:
        """Nothing is open."""


def _run(clock: _Clock, readers: list[_Reader], seconds: float) -> BusThread:
    thread = BusThread("usb", readers, lambda _event: None, lambda *_: None, Beats(lambda: clock.now_s), now=clock.now)
    end = clock.now_s + seconds
    while clock.now_s < end:
        clock.now_s += max(thread._turn(), 0.001)
    return thread


def _gaps(reader: _Reader) -> list[float]:
    return [after - before for before, after in zip(reader.openings, reader.openings[1:], strict=False)]


def test_a_reader_that_is_plugged_in_again_is_tried_within_two_seconds_even_after_a_day() -> None:
    clock = _Clock()
    reader = _Reader("desk", clock, 0.001, back=False)
    _run(clock, [reader], 600)
    assert len(reader.openings) > 250
    assert max(_gaps(reader)) <= 2.15


def test_openings_that_take_long_are_rare_beside_a_reader_that_works() -> None:
    clock = _Clock()
    works, silent = _Reader("lane", clock, 0.001, back=True), _Reader("door", clock, 1.8, back=False)
    _run(clock, [works, silent], 600)
    assert len(silent.openings) < 40, "each keeps the lane waiting"
    alone = _Reader("door", clock, 1.8, back=False)
    _run(clock, [alone], 600)
    assert max(_gaps(alone)) < 4.1
