"""What this gateway says of itself on its retained topic `reported`: its roster, and the verdict of its status page."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Protocol

from msgspec.structs import replace

from gateway.edge.health import Verdict
from gateway.link.messages import MAX_TEXT, Reported, encode

# Taps that wait, and days, change all the time; a verdict that differs in numbers only is not sent anew at once.
NUMBERS_SECONDS = 300.0
_DIGITS = re.compile(r"\d+")


class Wire(Protocol):
    """What is needed of the relay."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None: ...


class Reporter:
    """Publishes the whole message whenever a part of it changes; callable from any thread.

    Args:
        now: a clock that never goes back, in seconds.
    """

    def __init__(self, wire: Wire, topic: str, now: Callable[[], float]) -> None:
        self._wire, self._topic, self._now = wire, topic, now
        self._lock = threading.Lock()
        self._report = Reported()
        self._verdict_at = float("-inf")

    def roster(self, version: int | None, error: str | None, missing: list[str]) -> None:
        """Publish which roster is in force, why not a newer one, and what is missing for that."""
        error = error[:MAX_TEXT] if error else None
        with self._lock:
            self._publish(roster=version, error=error, missing=missing)

    def verdict(self, verdict: Verdict) -> None:
        """Publish the verdict of the status page, word for word, if it is another than the last one."""
        with self._lock:
            last = self._report
            is_same = verdict.level == last.level and _bare(verdict.sentence) == _bare(last.sentence)
            if is_same and (verdict.sentence == last.sentence or self._now() - self._verdict_at < NUMBERS_SECONDS):
                return
            self._verdict_at = self._now()
            sentence, remedy = verdict.sentence[:MAX_TEXT], verdict.remedy[:MAX_TEXT]
            self._publish(level=verdict.level, sentence=sentence, remedy=remedy)

    def _publish(self, **changed: Any) -> None:
        # Under the lock: two threads that each start from the same report would lose one's part.
        self._report = replace(self._report, **changed)
        self._wire.publish(self._topic, encode(self._report), retain=True)


def _bare(sentence: str) -> str:
    return _DIGITS.sub("", sentence)
