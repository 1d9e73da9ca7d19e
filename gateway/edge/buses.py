"""One thread per bus: opens its readers, polls them in turn, and brings lost ones back.

A reader that is gone is closed and opened again with a growing, jittered pause; the others on the bus go on. What a
driver raises beside ReaderOffline is a fault of the driver: it is logged, and the reader is treated as offline.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import MissingExtra, ReaderOffline
from gateway.points.actions import Signal
from gateway.readers.base import Reader, ReaderEvent
from gateway.service import Beats

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
BEAT_DEADLINE_SECONDS = 15.0
_IDLE_SECONDS = 0.1


@dataclass(slots=True)
class _Berth:
    reader: Reader
    is_open: bool = False
    was_ready: bool | None = None
    retry_at: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS


class BusThread:
    """Owns the readers of one bus.

    Args:
        handle: takes every reader event; it must not raise.
        note: told when a reader becomes ready or offline: name, state, one sentence.
    """

    def __init__(
        self,
        name: str,
        readers: Sequence[Reader],
        handle: Callable[[ReaderEvent], None],
        note: Callable[[str, str, str], None],
        beats: Beats,
    ) -> None:
        self.name = name
        self._berths = [_Berth(reader) for reader in readers]
        self._handle, self._note, self._beats = handle, note, beats
        self._wishes: queue.SimpleQueue[tuple[str, Signal]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"bus {name}", daemon=True)

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
        """Give every reader one turn and say how long to sleep."""
        pause = _IDLE_SECONDS
        for berth in self._berths:
            if not berth.is_open:
                self._try_open(berth)
            if not berth.is_open:
                continue
            try:
                for event in berth.reader.poll():
                    self._handle(event)
                pause = min(pause, berth.reader.pause_seconds)
            except ReaderOffline as error:
                self._lose(berth, str(error))
            except Exception as error:
                log.exception("the driver of reader %s failed", berth.reader.name)
                self._lose(berth, f"The driver failed: {type(error).__name__}.")
        while not self._wishes.empty():
            self._fulfil(*self._wishes.get())
        return pause

    def _try_open(self, berth: _Berth) -> None:
        if time.monotonic() < berth.retry_at:
            return
        try:
            berth.reader.open()
        except (ReaderOffline, MissingExtra) as error:
            self._lose(berth, str(error))
        except Exception as error:
            log.exception("the driver of reader %s failed", berth.reader.name)
            self._lose(berth, f"The driver failed: {type(error).__name__}.")
        else:
            berth.is_open = True
            berth.pause_seconds = FIRST_PAUSE_SECONDS
            if berth.was_ready is not True:
                berth.was_ready = True
                log.info("reader %s is ready", berth.reader.name)
                self._note(berth.reader.name, "ready", berth.reader.vitals.detail)

    def _lose(self, berth: _Berth, why: str) -> None:
        berth.reader.close()
        berth.is_open = False
        berth.reader.vitals.state, berth.reader.vitals.detail = "offline", why
        berth.retry_at = time.monotonic() + berth.pause_seconds * random.uniform(0.8, 1.2)
        berth.pause_seconds = min(berth.pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        if berth.was_ready is not False:
            berth.was_ready = False
            log.warning("reader %s is offline, trying again: %s", berth.reader.name, why)
            self._note(berth.reader.name, "offline", why)

    def _fulfil(self, name: str, signal: Signal) -> None:
        for berth in self._berths:
            if berth.reader.name == name and berth.is_open:
                berth.reader.signal(signal)


class ReaderSignals:
    """Takes a signal to its reader: directly on the reader's own bus thread, by request from any other."""

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
