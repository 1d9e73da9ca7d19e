"""Runs work in one hub process at a time while the others stand by."""

from __future__ import annotations

import abc
import logging
import threading
from collections.abc import Callable

from gateway.errors import StoreUnavailable
from gateway.hub.store.engine import Store
from gateway.hub.store.locks import exclusive

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
_END_SECONDS = 15


class Standby(abc.ABC):
    """A thread that tries for its lock every LOOK_SECONDS, and works while it holds it.

    Args:
        name: of the lock and of the thread.
        beat: called whenever the loop turns; feeds the watchdog.
    """

    def __init__(self, name: str, store: Store, beat: Callable[[], None]) -> None:
        self._name, self._store, self._beat = name, store, beat
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        waits = False
        while not self._stopping.is_set():
            self._beat()
            try:
                with exclusive(self._store, self._name) as still_held:
                    if still_held is not None:
                        self._work(still_held)
                waits = False
            except StoreUnavailable as error:
                # Logged once an outage; the other threads of this process log it too.
                log.log(logging.DEBUG if waits else logging.WARNING, "%s waits: %s", self._name, error)
                waits = True
            except Exception:
                log.exception("%s failed unexpectedly; restarting it", self._name)
            self._stopping.wait(LOOK_SECONDS)

    @abc.abstractmethod
    def _work(self, still_held: Callable[[], bool]) -> None:
        """Work while the lock is held; return when it is lost, when the thread stops, or to work again later.

        Raises:
            StoreUnavailable: the database does not answer; tried again later.
        """
