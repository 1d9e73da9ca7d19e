"""Ingest over MQTT 5 shared subscriptions: any number of workers share the load of one broker.

Two connections: live taps must not queue behind a drain, so the backlog has its own connection with a small receive
maximum. One thread owns both: it collects what has arrived, without a timer, commits, acknowledges, sends watermarks.
While the database is away nothing is acknowledged, and the receive maximum makes the broker wait. The sessions end with
their connections and a worker that stops leaves its share first: a broker goes on giving messages to the session of a
worker that is gone, and gateways send what nobody took again anyway.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.config import BrokerSettings
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.ingest.engine import (
    BACKLOG_BYTES,
    BACKLOG_WINDOW,
    BATCH_BYTES,
    BATCH_MESSAGES,
    LIVE_WINDOW,
    Outgoing,
    commit_until_done,
)
from gateway.hub.ingest.parse import Incoming
from gateway.hub.ingest.seals import Seal, unsealed
from gateway.hub.store.engine import now_ms
from gateway.link.client import Arrived, Connected, Disconnected, Link, Published, Unsubscribed
from gateway.link.topics import ALL_BACKLOG, ALL_TAPS

log = logging.getLogger(__name__)

# One share name per filter: rumqttd keeps one queue per name, and spins when its members have different filters.
LIVE_SHARE, BACKLOG_SHARE = "$share/hub-live/", "$share/hub-backlog/"
_IDLE_SECONDS = 1.0
_LEAVE_SECONDS = 5.0
_LEAVE_TICK_SECONDS = 0.05


class _Labelled(queue.SimpleQueue[Any]):
    """The inbox of one link, emptied into the queue that both links share."""

    def __init__(self, label: str, target: queue.SimpleQueue[tuple[str, Any]]) -> None:
        super().__init__()
        self._label, self._target = label, target

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        del block, timeout
        self._target.put((self._label, item))


class MqttShare:
    """One ingest worker.

    Args:
        worker: stable over restarts and different for each worker.
        fence: returns why no events may be taken now, None when they may; called about once a second.
        beat: called whenever the loop turns, at least every few seconds; feeds the watchdog.
        on_commit: called after every durable commit; must not wait and must not raise.
        seal: adds the hub's signature to a watermark.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        worker: str,
        committer: Committer,
        *,
        fence: Callable[[], str | None] = lambda: None,
        beat: Callable[[], None] = lambda: None,
        on_commit: Callable[[Committed], None] = lambda _committed: None,
        seal: Seal = unsealed,
    ) -> None:
        self._fence = fence
        self._shares, self._leaving = False, 0
        self._fence_reason: str | None = None
        self._fence_at = 0.0
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._committer, self._beat, self._on_commit = committer, beat, on_commit
        self._links = {
            label: Link(
                broker,
                f"{worker}-{label}",
                manual_ack=True,
                session_expiry_seconds=0,
                receive_maximum=window,
                inbox=_Labelled(label, self._inbox),
            )
            for label, window in (("live", LIVE_WINDOW), ("backlog", BACKLOG_WINDOW))
        }
        self._topics = {"live": LIVE_SHARE + ALL_TAPS, "backlog": BACKLOG_SHARE + ALL_BACKLOG}
        self._waiting: dict[str, deque[Arrived]] = {label: deque() for label in self._links}
        self._outgoing = Outgoing(seal)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)

    @property
    def connected(self) -> bool:
        return all(link.connected for link in self._links.values())

    @property
    def takes_share(self) -> bool:
        """Return whether this worker may take events: not while another hub serves the broker."""
        return self._shares

    def start(self) -> None:
        for link in self._links.values():
            link.start()
        self._thread.start()

    def stop(self) -> None:
        """Leave the share, commit what has arrived, then end."""
        self._stopping.set()
        self._thread.join(30)
        for link in self._links.values():
            link.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._turn()
        # Commit what the broker sent before it removed the worker; nothing comes after its answer.
        self._leave()
        deadline = time.monotonic() + _LEAVE_SECONDS
        while time.monotonic() < deadline and (any(self._waiting.values()) or (self._leaving and self.connected)):
            self._turn()

    def _turn(self) -> None:
        try:
            self._beat()
            self._look_at_fence()
            batch = self._collect()
            if batch:
                self._commit(batch)
        except Exception:
            # Nothing of the batch is acknowledged, so nothing is lost: the gateways send it again.
            log.exception("the ingest failed unexpectedly; it continues")
            self._stopping.wait(_IDLE_SECONDS)

    def _look_at_fence(self) -> None:
        now = time.monotonic()
        if self._stopping.is_set() or now - self._fence_at < _IDLE_SECONDS:
            return
        self._fence_at = now
        why = self._fence()
        if why != self._fence_reason:
            if why is not None:
                log.warning("the ingest takes nothing: %s", why)
            self._fence_reason = why
        if why is None and not self._shares:
            self._shares = True
            for label, link in self._links.items():
                if link.connected:
                    self._join(label)
        elif why is not None and self._shares:
            self._leave()
            for waiting in self._waiting.values():
                # Neither acknowledged nor committed: the gateways send it again, to the hub that serves.
                waiting.clear()

    def _join(self, label: str) -> None:
        self._links[label].subscribe([self._topics[label]])
        log.info("ingest %s: takes its share", label)

    def _leave(self) -> None:
        self._shares = False
        for label, link in self._links.items():
            if link.connected:
                link.unsubscribe([self._topics[label]])
                self._leaving += 1

    def _collect(self) -> list[tuple[str, Arrived]]:
        # A broker may send more than the receive maximum when it resumes a session (mosquitto 2.0 does), so the order
        # of arrival is not trusted: live messages first, then as much backlog as keeps the next commit short.
        idle = _LEAVE_TICK_SECONDS if self._stopping.is_set() else _IDLE_SECONDS
        self._take_all(idle if not any(self._waiting.values()) else 0)
        batch: list[tuple[str, Arrived]] = []
        size = 0
        for label, limit in (("live", BATCH_BYTES), ("backlog", BACKLOG_BYTES)):
            waiting = self._waiting[label]
            while waiting and len(batch) < BATCH_MESSAGES and size < limit:
                item = waiting.popleft()
                batch.append((label, item))
                size += len(item.payload)
        return batch

    def _take_all(self, wait_seconds: float) -> None:
        try:
            label, item = self._inbox.get(timeout=wait_seconds) if wait_seconds else self._inbox.get_nowait()
            while True:
                if isinstance(item, Arrived):
                    self._waiting[label].append(item)
                else:
                    self._on_link(label, item)
                label, item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _on_link(self, label: str, item: Connected | Disconnected | Published | Unsubscribed) -> None:
        if isinstance(item, Unsubscribed):
            self._leaving -= 1
        elif isinstance(item, Connected):
            if self._shares:
                self._join(label)
            self._outgoing.flush(self._links["live"])
        elif isinstance(item, Disconnected):
            # Unacknowledged messages are redelivered; keeping them here would only use memory.
            self._waiting[label].clear()
            log.warning("ingest %s: %s", label, item.why)
        elif item.refused:
            log.error("the broker refused a watermark (%s); check the hub's rights on .../ack", item.refused)

    def _commit(self, batch: list[tuple[str, Arrived]]) -> None:
        received_ms = now_ms()
        incoming = [Incoming(item.topic, item.payload, received_ms) for _, item in batch]
        committed = commit_until_done(self._committer, incoming, self._stopping, self._beat)
        if committed is None:
            return
        for label, item in batch:
            self._links[label].ack(item)
        self._outgoing.add(committed.watermarks)
        self._outgoing.flush(self._links["live"])
        self._on_commit(committed)
