"""A strike without hardware that records its changes, for demo, tests and doors that are only monitored."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class SimulatedStrike:
    """Keeps the last hundred changes as (CLOCK_MONOTONIC nanoseconds, asserted)."""

    changes: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=100))

    @property
    def asserted(self) -> bool:
        return bool(self.changes) and self.changes[-1][1]

    def unlock(self, unlock_seconds: float) -> None:
        del unlock_seconds
        self.changes.append((time.monotonic_ns(), True))

    def lock(self) -> None:
        self.changes.append((time.monotonic_ns(), False))
