"""Slows down a reader that gets one unknown card after another, as when somebody guesses numbers.

Known cards are always decided. While the brake is on, one unknown card a second is answered and recorded, which keeps
up with a queue of pupils whose cards the MIS writes otherwise; the rest are counted, and the count is recorded now and
then, so that guessing does not fill the journal.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

UNKNOWN_LIMIT = 10
WINDOW_SECONDS = 60.0
REPORT_SECONDS = 30.0
PACE_SECONDS = 1.0


@dataclass(slots=True)
class _Reader:
    """The unknown cards of one reader; `counted` since the last report, `on` while the brake is."""

    times: deque[float] = field(default_factory=deque)
    on: bool = False
    counted: int = 0
    reported_at: float = 0.0
    answered_at: float = float("-inf")


class Brake:
    """Counts unknown cards by reader; callable from every bus thread.

    Args:
        report: called with reader, `brake` or `brake_over`, and a sentence, whenever there is something to record.
        now: a clock that never goes back, in seconds.
    """

    def __init__(self, report: Callable[[str, str, str], None], now: Callable[[], float]) -> None:
        self._report, self._now = report, now
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}

    def holds(self, reader: str) -> bool:
        """Count an unknown card; return whether to leave it unanswered and unrecorded."""
        now = self._now()
        with self._lock:
            state = self._readers.setdefault(reader, _Reader())
            state.times.append(now)
            while now - state.times[0] >= WINDOW_SECONDS or len(state.times) > UNKNOWN_LIMIT + 1:
                state.times.popleft()
            if state.on:
                if now - state.answered_at >= PACE_SECONDS:
                    state.answered_at = now
                    return False
                state.counted += 1
                return True
            if len(state.times) <= UNKNOWN_LIMIT:
                return False
            state.on, state.counted, state.reported_at, state.answered_at = True, 0, now, now
        sentence = f"More than {UNKNOWN_LIMIT} unknown cards in {WINDOW_SECONDS:.0f} s; somebody may be guessing."
        self._report(reader, "brake", sentence)
        return False

    def tick(self) -> None:
        """Record the counts, and release a brake after a quiet period; call about once a second."""
        now = self._now()
        due: list[tuple[str, str, str]] = []
        with self._lock:
            for reader, state in self._readers.items():
                if not state.on:
                    continue
                over = now - state.times[-1] > WINDOW_SECONDS
                if not over and (now - state.reported_at < REPORT_SECONDS or not state.counted):
                    continue
                sentence = f"{state.counted} more unknown cards were presented."
                due.append((reader, "brake_over" if over else "brake", sentence))
                state.counted, state.reported_at = 0, now
                if over:
                    state.on = False
                    state.times.clear()
        for reader, what, sentence in due:
            self._report(reader, what, sentence)

    def braked(self) -> list[str]:
        """Return the readers whose brake is on."""
        with self._lock:
            return [reader for reader, state in self._readers.items() if state.on]
