"""The sign of a copied card in a `reader` event."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.access.event import Event

SUSPICION = "suspicion"
_SIGN = re.compile(r"[a-z0-9_]{1,31}")
_TAIL = re.compile(r"[0-9A-F]{4}")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A sign of copying found at a card.

    Attributes:
        sign: a value of cards.clones.Sign, or of a later release's.
        tail: of the UID, four hex digits; empty when the event holds anything else, which may be more than people
            are to see.
    """

    sign: str
    tail: str


def read_suspicion(event: Event) -> Suspicion | None:
    """Read the suspicion in an event; None when it is another event."""
    data = event.data
    if event.kind != "reader" or not isinstance(data, dict) or data.get("state") != SUSPICION:
        return None
    sign, tail = data.get("sign"), data.get("tail")
    return Suspicion(
        sign if isinstance(sign, str) and _SIGN.fullmatch(sign) else "unknown",
        tail if isinstance(tail, str) and _TAIL.fullmatch(tail) else "",
    )
