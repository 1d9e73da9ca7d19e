"""What is looked after behind the ingest: the hash chains are followed, times of unset clocks repaired."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from gateway.errors import StoreUnavailable
from gateway.hub.fleet.chain import verify_all
from gateway.hub.fleet.true_time import TimeRepair
from gateway.hub.store.engine import Store
from gateway.hub.store.locks import exclusive

log = logging.getLogger(__name__)

LOCK = "watch"
LOOK_SECONDS = 2.0


class Watch:
    """Runs in a thread of its own, in one hub process at a time."""

    def __init__(self, store: Store, *, beat: Callable[[], None] = lambda: None) -> None:
        self._store, self._beat = store, beat
        self._repair = TimeRepair(store)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(15)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._beat()
            try:
                with exclusive(self._store, LOCK) as held:
                    if held is not None:
                        verify_all(self._store, self._pause)
                        self._repair.run()
            except StoreUnavailable as error:
                log.debug("the watch waits: %s", error)
            self._stopping.wait(LOOK_SECONDS)

    def _pause(self) -> bool:
        self._beat()
        return self._stopping.is_set()
