"""Answers of points that record first, given when the record is durable, without holding up the reader.

A card whose syncs take seconds would otherwise keep the reader's thread from listening, and what people present
meanwhile would be dropped as stale. Law of this file: answers come in the order of the taps, and none comes later than
RECORD_SECONDS after its tap.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import RetryError

log = logging.getLogger(__name__)

RECORD_SECONDS = 2.0
# A good card syncs well within this, and then the reader's own thread answers without a hand-over.
PATIENCE_SECONDS = 0.1

Answer = Callable[[bool, str], None]


class Ticket(Protocol):
    """The promise of one record."""

    @property
    def done(self) -> bool: ...

    def wait(self, timeout: float) -> int: ...


@dataclass(slots=True)
class _Waiting:
    ticket: Ticket
    deadline: float
    answer: Answer


class Answers:
    """Waits for records; `answer_when_kept` from any bus thread."""

    def __init__(self, record_seconds: float = RECORD_SECONDS) -> None:
        self._record_seconds = record_seconds
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._under_way = 0
        self._lock = threading.Condition()
        self._thread: threading.Thread | None = None

    def answer_when_kept(self, ticket: Ticket, answer: Answer) -> None:
        """Call `answer(kept, why)` when the record is durable, refused or late: here, or soon on another thread."""
        item = _Waiting(ticket, time.monotonic() + self._record_seconds, answer)
        with self._lock:
            is_first = not self._under_way
        if is_first and (outcome := _outcome(ticket, PATIENCE_SECONDS)) is not None:
            answer(*outcome)
            return
        with self._lock:
            self._under_way += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
                self._thread.start()
        self._waiting.put(item)

    def finish(self) -> None:
        """Wait until every answer under way was given."""
        with self._lock:
            self._lock.wait_for(lambda: not self._under_way, self._record_seconds + 1)

    def _run(self) -> None:
        while True:
            item = self._waiting.get()
            try:
                outcome = _outcome(item.ticket, max(0.0, item.deadline - time.monotonic()))
                item.answer(*(outcome or (False, "The disk did not confirm the tap in time; it is kept later.")))
            except Exception:
                log.exception("an answer to a tap met a fault")
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()


def _outcome(ticket: Ticket, seconds: float) -> tuple[bool, str] | None:
    """Return whether a record is durable and why not, None while that is open."""
    try:
        ticket.wait(seconds)
    except (RetryError, TimeoutError) as error:
        return (False, str(error)) if ticket.done else None
    return True, ""
