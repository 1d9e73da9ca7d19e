"""Shared by every ingest engine: the contract, commits with retries, and pending watermarks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gateway.errors import StoreUnavailable
from gateway.hub.ingest.commit import Committed, Committer
from gateway.hub.ingest.parse import Incoming
from gateway.hub.ingest.seals import Seal, unsealed
from gateway.link.client import Link
from gateway.link.messages import Watermark, encode
from gateway.link.topics import GatewayTopics

log = logging.getLogger(__name__)

BATCH_MESSAGES = 500
BATCH_BYTES = 512 * 1024
BACKLOG_BYTES = 192 * 1024
LIVE_WINDOW = 1000
BACKLOG_WINDOW = 40
_RETRY_SECONDS = (0.2, 5.0)


class Ingest(Protocol):
    """One worker: brings messages to a Committer and acknowledges them only when it has returned."""

    @property
    def connected(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None:
        """Finish the commit under way, then leave; what was not acknowledged is redelivered to another worker."""


def commit_until_done(
    committer: Committer, batch: Sequence[Incoming], stopping: threading.Event, beat: Callable[[], None]
) -> Committed | None:
    """Commit a batch, retrying while the database is away; None when the worker stops first."""
    delay = _RETRY_SECONDS[0]
    while True:
        try:
            return committer.commit(batch)
        except StoreUnavailable as error:
            log.warning("%s Nothing is acknowledged; next try in %.1f s.", error, delay)
        if stopping.wait(delay):
            return None
        beat()
        delay = min(delay * 2, _RETRY_SECONDS[1])


class Outgoing:
    """The newest watermark of each gateway until the broker has accepted it.

    Args:
        seal: adds the hub's signature.
    """

    def __init__(self, seal: Seal = unsealed) -> None:
        self._seal = seal
        self._unsent: dict[str, tuple[GatewayTopics, Watermark]] = {}

    def add(self, watermarks: Iterable[tuple[GatewayTopics, Watermark]]) -> None:
        for topics, mark in watermarks:
            self._unsent[topics.ack] = topics, mark

    def flush(self, link: Link) -> None:
        """Send what can be sent; the rest waits for the next connection."""
        for topic, (topics, mark) in list(self._unsent.items()):
            if link.publish(topic, encode(self._seal(topics, mark)), retain=True) is None:
                return
            del self._unsent[topic]
