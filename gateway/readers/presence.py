"""Makes one presentation one tap: tracks the cards in the field, with hysteresis.

Law of this file: a card fires when it is seen and was not present. It is gone after `misses` looks in a row that should
have seen it and did not, and not before `rearm_ms` since the first of them; then it may fire again. Another card fires
at once, whatever lies there.
"""

from __future__ import annotations

from dataclasses import dataclass

MISSES_UNTIL_GONE = 3
_NS_PER_MS = 1_000_000


@dataclass(slots=True)
class _Present:
    last_seen_ns: int
    misses: int = 0
    first_miss_ns: int = 0


class Presence:
    """The set of cards in one field."""

    def __init__(self, rearm_ms: float, misses: int = MISSES_UNTIL_GONE) -> None:
        self._rearm_ns = int(rearm_ms * _NS_PER_MS)
        self._misses = misses
        self._cards: dict[bytes, _Present] = {}

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, card: bytes) -> bool:
        return card in self._cards

    @property
    def cards(self) -> tuple[bytes, ...]:
        """Return the cards present, the longest present first."""
        return tuple(self._cards)

    def seen(self, card: bytes, now_ns: int) -> bool:
        """Note that a card was seen; True when this is a new presentation."""
        present = self._cards.get(card)
        if present is None:
            self._cards[card] = _Present(now_ns)
            return True
        present.last_seen_ns = now_ns
        present.misses = 0
        return False

    def missed(self, card: bytes, now_ns: int) -> bool:
        """Note a look that should have seen this card and did not; True when the card is gone."""
        present = self._cards.get(card)
        if present is None:
            return False
        if not present.misses:
            present.first_miss_ns = now_ns
        present.misses += 1
        if present.misses < self._misses or now_ns - present.first_miss_ns < self._rearm_ns:
            return False
        del self._cards[card]
        return True

    def last_seen_ns(self, card: bytes) -> int:
        return self._cards[card].last_seen_ns

    def forget(self, card: bytes) -> None:
        """Drop a card without calling it gone, so that it may fire again."""
        self._cards.pop(card, None)
