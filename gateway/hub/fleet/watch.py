"""Background work after the ingest: verifies hash chains and corrects times of unset clocks."""

from __future__ import annotations

from collections.abc import Callable

from gateway.hub.fleet.chain import verify_all
from gateway.hub.fleet.true_time import TimeRepair
from gateway.hub.store.engine import Store
from gateway.hub.work.standby import Standby

LOCK = "watch"


class Watch(Standby):
    """Runs in a thread of its own, in one hub process at a time."""

    def __init__(self, store: Store, *, beat: Callable[[], None] = lambda: None) -> None:
        super().__init__(LOCK, store, beat)
        self._repair = TimeRepair(store)

    def _work(self, still_held: Callable[[], bool]) -> None:  # noqa: ARG002  # two at once would only do the same twice
        verify_all(self._store, self._pause)
        self._repair.run()

    def _pause(self) -> bool:
        self._beat()
        return self._stopping.is_set()
