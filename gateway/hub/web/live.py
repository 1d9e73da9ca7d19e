"""Sends new lines to open logbook pages, from the database, whichever process committed them."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import func, select

from gateway.errors import StoreUnavailable
from gateway.hub.scope import everything
from gateway.hub.store import tables
from gateway.hub.store.engine import Store
from gateway.hub.web.queries import LogFilter, read_log
from gateway.webkit.events import Broadcaster, Live
from gateway.webkit.site import Site

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
# Each stream hands on what its reader may see (see logbook.stream).
_ALL = everything("hub")
_ROWS = 20


class LogFeed:
    """Looks for new events while a page is open; costs nothing otherwise."""

    def __init__(self, store: Store, site: Site, live: Broadcaster) -> None:
        self._store, self._site, self._live = store, site, live
        self._shown: set[tuple[str, str, str, int]] = set()
        self._moved = -1
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            if not self._live.listeners:
                self._moved = -1
                continue
            try:
                self._look()
            except StoreUnavailable as error:
                log.debug("the live logbook waits: %s", error)

    def _look(self) -> None:
        with self._store.read() as connection:
            # The marks change with every commit of new events, and there are few of them.
            moved = connection.scalar(select(func.sum(tables.mark.c.upto) + func.max(tables.mark.c.changed_ms))) or 0
            if moved == self._moved:
                return
            rows, _ = read_log(_ALL, connection, LogFilter())
        first, self._moved = self._moved < 0, moved
        keys = {(row.site, row.gateway, row.epoch, row.seq) for row in rows}
        if not first:
            fresh = [row for row in rows if (row.site, row.gateway, row.epoch, row.seq) not in self._shown]
            for row in reversed(fresh[:_ROWS]):
                html = self._site.fragment("logbook.html", "logrow", {"row": row})
                self._live.publish(Live("row-log", html, site=row.site))
        self._shown = keys
