"""Looks up who held a card at a given time, past or present."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, select

from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices


@dataclass(frozen=True, slots=True)
class Holding:
    """A card's assignment to a person, from `since_ms` (None: always) until before `until_ms` (None: still)."""

    person: str
    since_ms: int | None
    until_ms: int | None

    def holds(self, at_ms: int) -> bool:
        after = self.since_ms is None or at_ms >= self.since_ms
        return after and (self.until_ms is None or at_ms < self.until_ms)


@dataclass(frozen=True, slots=True)
class Holders:
    """The holdings of some cards, by site and card key."""

    holdings: dict[tuple[str, str], list[Holding]]

    @classmethod
    def load(cls, connection: Connection, cards: Iterable[tuple[str, str]]) -> Holders:
        keys_of: dict[str, set[str]] = defaultdict(set)
        for site, key in cards:
            keys_of[site].add(key)
        holdings: dict[tuple[str, str], list[Holding]] = defaultdict(list)
        card, holding = tables.card, tables.holding
        for site, keys in keys_of.items():
            for some in in_slices(sorted(keys)):
                query = (
                    select(card.c.key, holding.c.person, holding.c.since_ms, holding.c.until_ms)
                    .join_from(card, holding, holding.c.card == card.c.id)
                    .where(card.c.site == site, card.c.key.in_(some))
                )
                for key, person, since_ms, until_ms in connection.execute(query):
                    holdings[site, key].append(Holding(person, since_ms, until_ms))
        return cls(holdings)

    def at(self, site: str, key: str, at_ms: int) -> str | None:
        """Return the person who held this card then, None when nobody did."""
        return next((item.person for item in self.holdings.get((site, key), ()) if item.holds(at_ms)), None)
