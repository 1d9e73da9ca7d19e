"""What a test of a source says of a read, in words and numbers: the same for every kind."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import SourceRefused, TapgateError
from gateway.mis.base import CheckResult, FeedItem, Gone, Notice, Record, Unreadable


def summarise(items: Iterable[FeedItem]) -> tuple[str, list[tuple[str, str]]]:
    """Return a sentence that counts what was read, and the warnings of the read."""
    people = cards = left = faults = 0
    warnings = []
    for item in items:
        match item:
            case Record():
                people += 1
                cards += bool(item.cards)
            case Gone():
                left += 1
            case Unreadable():
                faults += 1
            case Notice():
                warnings.append(("notice", item.text))
            case _:
                pass
    return f"{people} people can be read, {cards} with a card; {left} have left; {faults} faults.", warnings


def failed(error: TapgateError) -> CheckResult:
    """Return the result of a test that met an error."""
    return CheckResult(error.failure if isinstance(error, SourceRefused) else "unreachable", str(error))
