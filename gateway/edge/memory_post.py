"""Which events go to the hub from memory, because the disk refuses them: a plain state machine without a thread.

One message is with the broker at a time; what came meanwhile goes with the next. An event counts as delivered only by
the hub's watermark over the memory's own epoch, and that makes neither the journal nor this memory forget it.
"""

from __future__ import annotations

from gateway.edge.outbox import EVENTS_PER_MESSAGE, REFUSED_SECONDS, RESEND_MAX_SECONDS, count_fitting
from gateway.journal.unsaved import Unsaved


class MemoryPost:
    """Lives on the relay's thread; times are seconds of one monotonic clock, given by the caller."""

    def __init__(self, unsaved: Unsaved, resend_seconds: float) -> None:
        self._unsaved = unsaved
        self._resend_seconds = resend_seconds
        self._mid: int | None = None
        self._sent_upto = 0
        self._tries = 0
        self._again_at = 0.0
        self._not_before = 0.0

    @property
    def epoch(self) -> str:
        return self._unsaved.epoch

    @property
    def is_empty(self) -> bool:
        return not self._unsaved.undelivered(0, 1)

    def next(self, now: float, message_bytes: int) -> list[tuple[int, bytes]]:
        """Return number and bytes of the events to send now; report them with `was_sent`."""
        if self._mid is not None or now < self._not_before or not self._unsaved.held:
            return []
        if self._sent_upto and now >= self._again_at:
            # The hub said nothing of them: everything that it does not hold goes again.
            self._sent_upto = 0
            self._tries += 1
        waiting = self._unsaved.undelivered(self._sent_upto, EVENTS_PER_MESSAGE)
        return waiting[: count_fitting(waiting, message_bytes)]

    def was_sent(self, events: list[tuple[int, bytes]], mid: int, now: float) -> None:
        """Note that a message is on its way; the broker will confirm it under `mid`."""
        self._mid = mid
        if not self._sent_upto:
            self._again_at = now + min(self._resend_seconds * 2**self._tries, RESEND_MAX_SECONDS)
        self._sent_upto = events[-1][0]

    def published(self, mid: int, refused: str | None, now: float) -> bool:
        """Take in the broker's answer; tell whether it was about a message of this memory."""
        if mid != self._mid:
            return False
        self._mid = None
        if refused:
            self._not_before = now + REFUSED_SECONDS
            self._sent_upto = 0
        return True

    def watermark(self, upto: int, have: list[tuple[int, int]]) -> None:
        """Take in what the hub holds of the memory's epoch."""
        self._unsaved.delivered(upto, have)
        self._tries = 0

    def disconnected(self) -> None:
        """Forget what was under way; the memory has it."""
        self._mid, self._sent_upto, self._tries, self._not_before = None, 0, 0, 0.0
