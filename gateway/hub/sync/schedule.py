"""Schedules the syncs: each source at its own interval, one run at a time, a missed run caught up once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, select

from gateway.errors import TapgateError
from gateway.hub.directory.sites import Source, list_sources
from gateway.hub.store import tables
from gateway.hub.store.engine import Store, now_ms
from gateway.hub.sync.run import Overlap, sync

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0


class Schedule:
    """Runs due syncs on its own thread.

    Args:
        base: folder that relative paths of sources start from.
        beat: called on every turn of the loop; feeds the watchdog. A long sync must not look like a dead loop, so the
            runs have a separate thread.
    """

    def __init__(self, store: Store, base: Path, *, beat: Callable[[], None] = lambda: None) -> None:
        self._store, self._base, self._beat = store, base, beat
        self._stopping = threading.Event()
        self._runner: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the run under way."""
        self._stopping.set()
        self._thread.join(15)
        if self._runner:
            self._runner.join(60)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._beat()
            if self._runner is None or not self._runner.is_alive():
                self._runner = threading.Thread(target=self._run_due, name="sync", daemon=True)
                self._runner.start()
            self._stopping.wait(_LOOK_SECONDS)

    def _run_due(self) -> None:
        try:
            for source in self._due():
                if self._stopping.is_set():
                    return
                self._try(source)
        except TapgateError as error:
            log.warning("the schedule of syncs: %s", error)

    def _try(self, source: Source) -> None:
        try:
            sync(self._store, source, self._base)
        except Overlap as error:
            log.info("%s", error)
        except TapgateError as error:
            log.warning("sync of %s failed: %s The last good data stay in use.", source.label, error)
        except Exception:
            # An unexpected error of one source must not keep the others from being read.
            log.exception("sync of %s failed; the last good data stay in use", source.label)

    def _due(self) -> list[Source]:
        run = tables.sync_run
        with self._store.read() as connection:
            newest = select(run.c.source, func.max(run.c.started_ms)).group_by(run.c.source)
            last = {row[0]: row[1] for row in connection.execute(newest)}
            sources = list_sources(connection)
        return [source for source in sources if now_ms() - last.get(source.id, 0) >= source.every_seconds * 1000]
