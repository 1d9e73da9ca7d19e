"""Applies the card operations of a plan; part of apply.py, which owns the transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from gateway.hub.store import tables
from gateway.hub.store.audit import Audit
from gateway.hub.store.rows import in_slices
from gateway.hub.sync.known import waits_for
from gateway.hub.sync.operations import Await, Link, Move, Operation, Replace, Revoke

_BATCH = 2000
Refs = Mapping[tuple[str, str], str]


def apply_cards(
    connection: Connection,
    audit: Audit,
    operations: list[Operation],
    *,
    origin: str,
    new_state: str,
    refs: Callable[[], Refs],
) -> None:
    """Apply what a plan does with cards, once its people are in place.

    Args:
        refs: whose each id in use is, by (entity, person_key).
    """
    if any(isinstance(item, Link | Replace | Revoke | Move | Await) for item in operations):
        _Cards(connection, audit, origin, new_state, refs()).apply(operations)


class _Cards:
    def __init__(self, connection: Connection, audit: Audit, origin: str, new_state: str, refs: Refs) -> None:
        self._connection, self._site, self._audit = connection, audit.site, audit
        self._origin, self._new_state, self._refs = origin, new_state, refs

    def apply(self, operations: list[Operation]) -> None:
        taking = {item.card: "blocked" for item in operations if isinstance(item, Revoke)}
        taking |= {item.old_card: "replaced" for item in operations if isinstance(item, Replace)}
        before = self._states_of([item.old_card for item in operations if isinstance(item, Replace)])
        self._take(taking)
        self._move([item for item in operations if isinstance(item, Move)])
        for some in in_slices((item for item in operations if isinstance(item, Link | Replace)), _BATCH):
            self._give(some, before)
            self._audit.write(self._connection)
        self._keep([item for item in operations if isinstance(item, Await)])
        for item in operations:
            if isinstance(item, Revoke):
                self._audit.note("card_revoke", self._ref(item), tail=item.tail)

    def _ref(self, item: Link | Replace | Revoke | Move) -> str:
        return item.person or self._refs[item.entity, item.person_key]

    def _states_of(self, cards: list[str]) -> dict[str, str]:
        card = tables.card
        states: dict[str, str] = {}
        for some in in_slices(cards):
            query = select(card.c.key, card.c.state).where(card.c.site == self._site, card.c.key.in_(some))
            states.update((row.key, row.state) for row in self._connection.execute(query))
        return states

    def _take(self, cards: dict[str, str]) -> None:
        card = tables.card
        by = {"state_by": self._origin, "changed_ms": self._audit.at_ms}
        for key, state in sorted(cards.items()):
            self._connection.execute(
                update(card).where(card.c.site == self._site, card.c.key == key).values(state=state, **by)
            )

    def _move(self, items: list[Move]) -> None:
        card, holding = tables.card, tables.holding
        for item in items:
            ref = self._ref(item)
            card_id = self._connection.scalar(
                update(card)
                .where(card.c.site == self._site, card.c.key == item.card)
                .values(self._given(ref))
                .returning(card.c.id)
            )
            self._connection.execute(
                update(holding)
                .where(holding.c.card == card_id, holding.c.until_ms.is_(None))
                .values(until_ms=self._audit.at_ms)
            )
            self._connection.execute(insert(holding).values(card=card_id, person=ref, since_ms=self._audit.at_ms))
            self._audit.note("card_move", ref, tail=item.tail, from_person=item.from_ref)

    def _given(self, ref: str, state: str | None = None) -> dict[str, Any]:
        return {
            "person": ref,
            "state": state or self._new_state,
            "state_by": self._origin,
            "origin": self._origin,
            "waiting_for": None,
            "changed_ms": self._audit.at_ms,
        }

    def _give(self, items: list[Link | Replace], before: dict[str, str]) -> None:
        card, holding = tables.card, tables.holding
        known: dict[str, tuple[int, str | None]] = {}
        for some in in_slices(item.card for item in items):
            query = select(card.c.key, card.c.id, card.c.person).where(card.c.site == self._site, card.c.key.in_(some))
            known.update((key, (card_id, person)) for key, card_id, person in self._connection.execute(query))
        fresh = []
        for item in items:
            ref = self._ref(item)
            # A person who has claimed an account need not claim it again for a new card.
            given = self._given(ref, before.get(item.old_card) if isinstance(item, Replace) else None)
            if item.card not in known:
                row = {"site": self._site, "key": item.card, "tail": item.tail, "projection": item.projection}
                fresh.append({**row, **given, "created_ms": self._audit.at_ms})
            else:
                self._give_again(*known[item.card], given)
            old = {"old_tail": item.old_tail} if isinstance(item, Replace) else {}
            self._audit.note("card_replace" if old else "card_link", ref, tail=item.tail, **old)
        if not fresh:
            return
        self._connection.execute(insert(card), fresh)
        # A new card's first holding has no start time, so that earlier taps by it count too.
        first = select(card.c.id, card.c.person).where(card.c.site == self._site, card.c.key == bindparam("new_key"))
        self._connection.execute(
            insert(holding).from_select(["card", "person"], first), [{"new_key": row["key"]} for row in fresh]
        )

    def _give_again(self, card_id: int, holder: str | None, given: dict[str, Any]) -> None:
        card, holding = tables.card, tables.holding
        self._connection.execute(update(card).where(card.c.id == card_id).values(given))
        if holder is None:
            before = self._connection.scalar(select(func.count()).where(holding.c.card == card_id))
            since_ms = self._audit.at_ms if before else None
            self._connection.execute(insert(holding).values(card=card_id, person=given["person"], since_ms=since_ms))

    def _keep(self, items: list[Await]) -> None:
        """Store cards whose people are not here yet; they open nothing."""
        rows = [
            {
                "site": self._site,
                "key": item.card,
                "tail": item.tail,
                "projection": item.projection,
                "state": "prelinked",
                "state_by": self._origin,
                "origin": self._origin,
                "waiting_for": waits_for(item.entity, item.person_key),
                "created_ms": self._audit.at_ms,
                "changed_ms": self._audit.at_ms,
            }
            for item in items
        ]
        if rows:
            self._connection.execute(insert(tables.card), rows)
