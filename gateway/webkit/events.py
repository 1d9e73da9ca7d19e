"""Live events from daemon threads to pages.

Publishers run on any thread and never wait: a slow page loses its oldest events and gets a `lost` event. Each
subscriber belongs to the web thread's event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi.sse import ServerSentEvent

BEAT_SECONDS = 5.0
_QUEUE_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Live:
    """One event: `name` as live.js knows it, `data` already rendered, `id` for Last-Event-ID or None.

    Attributes:
        site: whom it concerns, for streams that not everybody may read whole.
    """

    name: str
    data: str
    id: str | None = None
    site: str = ""


# EventSource drops events without data, so these two carry a dash.
BEAT = Live("beat", "-")
LOST = Live("lost", "-")


class _Subscriber:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[Live] = deque(maxlen=_QUEUE_LENGTH)
        self.lost = False
        self.ready = asyncio.Event()


class Broadcaster:
    """Hands every event to every open page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: set[_Subscriber] = set()
        self._closed = False

    @property
    def listeners(self) -> int:
        return len(self._subscribers)

    def publish(self, event: Live) -> None:
        """Hand out one event; callable from any thread, never waits."""
        if not self._subscribers:
            return
        with self._lock:
            for subscriber in self._subscribers:
                if len(subscriber.waiting) == _QUEUE_LENGTH:
                    subscriber.lost = True
                subscriber.waiting.append(event)
                _wake(subscriber)

    def close(self) -> None:
        """End every stream, so that the web server can stop."""
        with self._lock:
            self._closed = True
            for subscriber in self._subscribers:
                _wake(subscriber)

    async def listen(self) -> AsyncIterator[Live]:
        """Return events as they come and a `beat` when there was none for BEAT_SECONDS; ends when closed.

        A broadcaster that is closed already says nothing at all: a beat would tell a page that reconnects that
        what it shows is up to date.
        """
        subscriber = _Subscriber()
        with self._lock:
            self._subscribers.add(subscriber)
        try:
            if not self._closed:
                yield BEAT
            while not self._closed:
                try:
                    await asyncio.wait_for(subscriber.ready.wait(), BEAT_SECONDS)
                except TimeoutError:
                    yield BEAT
                    continue
                subscriber.ready.clear()
                if subscriber.lost:
                    subscriber.lost = False
                    yield LOST
                while subscriber.waiting:
                    yield subscriber.waiting.popleft()
        finally:
            with self._lock:
                self._subscribers.discard(subscriber)


def _wake(subscriber: _Subscriber) -> None:
    if not subscriber.loop.is_closed():
        subscriber.loop.call_soon_threadsafe(subscriber.ready.set)


def sent(event: Live) -> ServerSentEvent:
    """Return the form in which FastAPI streams an event."""
    return ServerSentEvent(raw_data=event.data, event=event.name, id=event.id)
