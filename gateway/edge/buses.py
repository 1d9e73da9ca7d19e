"""One thread per bus: opens its readers, polls them in turn, and brings lost ones back.

Readers that can share a bus poll at the same time: each step of a poll is one short call, and while one reader's frame
is on air the others use the bus. A reader alone on its bus is polled in one call, which is cheaper.

A reader that is gone is closed and opened again with a growing, jittered pause of at most 2 s, or 30 s where its
opening keeps others waiting; the others on the bus keep working. Any error other than ReaderOffline is a fault of the
driver: it is logged, and the reader is treated as offline.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.edge.antennas import AntennaTurns
from gateway.errors import MissingExtra, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import Look, Reader, ReaderEvent, SharingReader
from gateway.service import Beats

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 2.0
# Applies to a reader whose opening delays the others on its bus by more than this.
_LONG_OPENING_SECONDS, _LONGEST_BESIDE_OTHERS_SECONDS = 0.1, 30.0
BEAT_DEADLINE_SECONDS = 15.0
_IDLE_SECONDS = 0.1
_PR_SET_TIMERSLACK, _TIMER_SLACK_NS = 29, 1000


def _sleep_on_time() -> None:
    """Make this thread's sleeps precise: by default Linux adds 50 us to each; prctl(2)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_TIMER_SLACK_NS), 0, 0, 0)


@dataclass(slots=True, eq=False)
class _Berth:
    """One reader; `due` is the time of its next turn, `look` its unfinished poll."""

    reader: Reader
    sharing: SharingReader | None = None
    antennas: AntennaTurns[_Berth] | None = None
    look: Look | None = None
    due: float = 0.0
    is_open: bool = False
    was_ready: bool | None = None
    retry_at: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS

    @property
    def is_lit(self) -> bool:
        return self.is_open and (self.antennas is None or self.antennas.holder is self)


class BusThread:
    """Owns the readers of one bus.

    Args:
        handle: takes every reader event; it must not raise.
        note: called when a reader becomes ready or offline, with name, state and one sentence.
        now: the clock that the readers are paced by, in seconds.
    """

    def __init__(
        self,
        name: str,
        readers: Sequence[Reader],
        handle: Callable[[ReaderEvent], None],
        note: Callable[[str, str, str], None],
        beats: Beats,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._now = now
        self._berths = [_Berth(reader, reader if isinstance(reader, SharingReader) else None) for reader in readers]
        self._antennas = self._group()
        self._handle, self._note, self._beats = handle, note, beats
        self._wishes: queue.SimpleQueue[tuple[str, Signal]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bus {name}", daemon=True)

    def _group(self) -> list[AntennaTurns[_Berth]]:
        groups: dict[str, list[_Berth]] = {}
        for berth in self._berths:
            if berth.sharing is not None and berth.sharing.antenna_group:
                groups.setdefault(berth.sharing.antenna_group, []).append(berth)
        found = []
        for members in groups.values():
            antennas = AntennaTurns(members)
            found.append(antennas)
            for berth in members:
                berth.antennas = antennas
        return found

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the readers."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def signal_soon(self, reader: str, signal: Signal) -> None:
        """Ask for a signal from another thread; shown at the next turn."""
        self._wishes.put((reader, signal))

    def _run(self) -> None:
        _sleep_on_time()
        beat = self._beats.register(f"bus {self.name}", BEAT_DEADLINE_SECONDS)
        try:
            while not self._stop.is_set():
                beat()
                pause = self._turn()
                if pause > 0:
                    time.sleep(pause)
        finally:
            for berth in self._berths:
                berth.reader.close()
            self._beats.forget(f"bus {self.name}")

    def _turn(self) -> float:
        """Poll every reader that is due and return the seconds to sleep."""
        for berth in self._berths:
            if not berth.is_open:
                self._try_open(berth)
            if berth.is_lit and self._now() >= berth.due:
                self._serve(berth)
        for antennas in self._antennas:
            if antennas.holder is None:
                self._light(antennas)
        while not self._wishes.empty():
            self._fulfil(*self._wishes.get())
        due = min((berth.due for berth in self._berths if berth.is_lit), default=float("inf"))
        return min(due - self._now(), _IDLE_SECONDS)

    @contextlib.contextmanager
    def _losing(self, berth: _Berth, opening_since: float | None = None) -> Iterator[None]:
        """Contain an error of one driver: only its reader goes offline."""
        try:
            yield
        except (ReaderOffline, MissingExtra) as error:
            self._lose(berth, str(error), self._longest_pause(opening_since))
        except Exception as error:
            log.exception("the driver of reader %s failed", berth.reader.name)
            self._lose(berth, f"The driver failed: {type(error).__name__}.", self._longest_pause(opening_since))

    def _longest_pause(self, opening_since: float | None) -> float:
        if opening_since is None or not any(berth.is_open for berth in self._berths):
            return LONGEST_PAUSE_SECONDS
        took = self._now() - opening_since
        return LONGEST_PAUSE_SECONDS if took < _LONG_OPENING_SECONDS else _LONGEST_BESIDE_OTHERS_SECONDS

    def _serve(self, berth: _Berth) -> None:
        with self._losing(berth):
            events = self._step(berth)
            if events is None:
                return
            for event in events:
                self._handle(event)
            now = self._now()
            berth.due = now + self._pause()
            if berth.antennas and berth.sharing:
                self._pass_on(berth, berth.sharing, berth.antennas, now)

    def _step(self, berth: _Berth) -> list[ReaderEvent] | None:
        """Poll a reader, or advance its poll by one step; None while that is unfinished."""
        if berth.look is None:
            if berth.sharing is None or not self._is_shared():
                return berth.reader.poll()
            berth.look = berth.sharing.look()
        try:
            seconds = next(berth.look)
        except StopIteration as done:
            berth.look = None
            events: list[ReaderEvent] = done.value
            return events
        berth.due = self._now() + seconds
        return None

    def _is_shared(self) -> bool:
        return sum(berth.sharing is not None and berth.is_lit for berth in self._berths) > 1

    def _pause(self) -> float:
        # A tap at one reader makes one at the next likely: all keep the pace of the busiest.
        return min(berth.reader.pause_seconds for berth in self._berths if berth.is_open)

    def _pass_on(self, berth: _Berth, reader: SharingReader, antennas: AntennaTurns[_Berth], now: float) -> None:
        if not antennas.is_over(answered=reader.answered, now=now):
            berth.due = now  # the others wait for the end of this turn
            return
        if any(other.is_open and other.antennas is antennas for other in self._berths if other is not berth):
            reader.field(on=False)
            antennas.end()

    def _light(self, antennas: AntennaTurns[_Berth]) -> None:
        """Pass the field to the next member of the group that accepts it."""
        for berth in antennas.queue([berth for berth in self._berths if berth.is_open]):
            if berth.sharing is None:
                continue
            with self._losing(berth):
                seconds = berth.sharing.field(on=True)
                now = self._now()
                berth.due = now + max(seconds, self._pause())
                antennas.begin(berth, berth.due)
                return

    def _try_open(self, berth: _Berth) -> None:
        if self._now() < berth.retry_at:
            return
        begun = self._now()
        with self._losing(berth, begun):
            if berth.antennas and berth.sharing:
                berth.sharing.field(on=False)
            berth.reader.open()
            berth.is_open = True
            berth.due = 0.0
            berth.pause_seconds = FIRST_PAUSE_SECONDS
            if berth.was_ready is not True:
                berth.was_ready = True
                log.info("reader %s is ready", berth.reader.name)
                self._note(berth.reader.name, "ready", berth.reader.vitals.detail)

    def _lose(self, berth: _Berth, why: str, longest_pause: float) -> None:
        if berth.antennas and berth.antennas.holder is berth:
            berth.antennas.end()
        berth.look = None
        berth.reader.close()
        berth.is_open = False
        berth.reader.vitals.state, berth.reader.vitals.detail = "offline", why
        berth.retry_at = self._now() + min(berth.pause_seconds, longest_pause) * random.uniform(0.7, 1.0)
        berth.pause_seconds = min(berth.pause_seconds * 2, longest_pause)
        if berth.was_ready is not False:
            berth.was_ready = False
            log.warning("reader %s is offline, trying again: %s", berth.reader.name, why)
            self._note(berth.reader.name, "offline", why)

    def _fulfil(self, name: str, signal: Signal) -> None:
        for berth in self._berths:
            if berth.reader.name == name and berth.is_open:
                berth.reader.signal(signal)


class ReaderSignals:
    """Delivers signals to readers: directly on the reader's bus thread, queued from any other."""

    def __init__(self) -> None:
        self._bus_of: Mapping[str, BusThread] = {}
        self._readers: Mapping[str, Reader] = {}

    def connect(self, bus_of: Mapping[str, BusThread], readers: Mapping[str, Reader]) -> None:
        self._bus_of, self._readers = bus_of, readers

    def tell(self, name: str, signal: Signal) -> bool:
        """Show a signal; False when there is no such reader or it has neither LED nor buzzer."""
        bus = self._bus_of.get(name)
        if bus is None:
            return False
        if threading.current_thread().name == f"bus {bus.name}":
            return self._readers[name].signal(signal)
        bus.signal_soon(name, signal)
        return True
