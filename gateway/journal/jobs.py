"""What other threads hand to the writer, and the ticket they get for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from gateway.access.event import Event
from gateway.errors import JournalWriteFailed, TapgateError


class Ticket:
    """A promise for one record: `wait` returns when it is durable."""

    __slots__ = ("_error", "_lock", "_seq", "done")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._seq = 0
        self._error: TapgateError | None = None
        self.done = False

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait until the record is durable and return its number.

        Raises:
            JournalFull: the disk or the quota is used up; the event was not kept.
            JournalWriteFailed: the disk refused, or did not answer in time; in the second case the event may still
                become durable later.
            JournalMisuse: the event is too large or cannot be written as JSON.
        """
        if not self._lock.acquire(timeout=-1 if timeout_seconds is None else timeout_seconds):
            raise JournalWriteFailed("The disk did not confirm the event in time; it may still be kept later.")
        self._lock.release()
        if self._error:
            raise self._error
        return self._seq

    def resolve(self, seq: int) -> None:
        self._seq = seq
        self.done = True
        self._lock.release()

    def fail(self, error: TapgateError) -> None:
        self._error = error
        self.done = True
        self._lock.release()


@dataclass(slots=True)
class Append:
    event: Event
    ticket: Ticket


@dataclass(slots=True)
class Change:
    """One change of a named table, already encoded."""

    payload: bytes
    ticket: Ticket


@dataclass(slots=True)
class Acknowledge:
    """A watermark over one epoch.

    Attributes:
        may_leap: whether one above the head moves the journal on (see Journal.acknowledge).
    """

    upto: int
    epoch: bytes
    may_leap: bool = False


@dataclass(slots=True)
class BeginEpoch:
    """Write every event after a number into a new epoch; resolves with the new head."""

    after: int
    ticket: Ticket


@dataclass(slots=True)
class Stop:
    """Ends the thread after everything before it."""


@dataclass(slots=True)
class Barrier:
    """Resolves when everything before it is done, unlinking included."""

    ticket: Ticket


Job = Append | Change | Acknowledge | BeginEpoch | Barrier | Stop
