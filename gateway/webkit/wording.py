"""Formats numbers for people."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def age(seconds: float | None) -> str:
    """Return how long ago: `just now`, `40 s`, `5 min`, `3 h`, `12 days`; `never` for None."""
    if seconds is None:
        return "never"
    if seconds < 2:
        return "just now"
    for limit, unit, word in ((2 * _MINUTE, 1, "s"), (2 * _HOUR, _MINUTE, "min"), (2 * _DAY, _HOUR, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {word}"
    return f"{seconds / _DAY:.0f} days"


def size(count: float | None) -> str:
    """Return a number of bytes as text: `812 B`, `1.2 MB`, `14 GB`; `unknown` for None."""
    if count is None:
        return "unknown"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
