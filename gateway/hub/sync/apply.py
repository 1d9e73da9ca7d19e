"""Applies a plan's operations and their audit in one transaction.

It uses a few bulk statements, so that the first read of a hundred thousand people takes seconds.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from gateway.hub.directory.journal import Audit
from gateway.hub.directory.matching import match_taps
from gateway.hub.directory.people import new_ref
from gateway.hub.store import tables
from gateway.hub.store.rows import in_slices, insert_if_new
from gateway.hub.sync.known import KEY, STABLE, origin_of
from gateway.hub.sync.operations import Create, Link, Move, Operation, Remove, Replace, Revoke, Update

_PERSON_FIELDS = ("person_key", "role", "given_name", "family_name", "groups", "active")


class Applier:
    """Applies operations of one source inside a transaction that the caller owns.

    Args:
        new_card_state: `active`, or `prelinked` for sites where a card waits for its account.
    """

    def __init__(self, connection: Connection, site: str, source: int, audit: Audit, new_card_state: str) -> None:
        self._connection, self._site, self._source, self._audit = connection, site, source, audit
        self._new_card_state = new_card_state
        self._refs: dict[str, str] = {}

    def apply(self, operations: list[Operation]) -> int:
        """Apply every operation; return how many earlier taps were matched to a person."""
        self._create([item for item in operations if isinstance(item, Create)])
        for item in operations:
            if isinstance(item, Update):
                self._update(item)
        self._remove([item for item in operations if isinstance(item, Remove)])
        self._load_refs()
        taking = {item.card: "blocked" for item in operations if isinstance(item, Revoke)}
        taking |= {item.old_card: "replaced" for item in operations if isinstance(item, Replace)}
        before = self._states_of([item.old_card for item in operations if isinstance(item, Replace)])
        self._take(taking)
        self._move([item for item in operations if isinstance(item, Move)])
        self._give([item for item in operations if isinstance(item, Link | Replace)], before)
        for item in operations:
            if isinstance(item, Revoke):
                self._audit.note("card_revoke", self._refs[item.person_key], tail=item.tail)
        matched = match_taps(self._connection, self._audit.at_ms)
        self._audit.write(self._connection)
        return matched

    def _create(self, items: list[Create]) -> None:
        people, ids = [], []
        for item in items:
            ref = new_ref()
            people.append(
                {
                    "ref": ref,
                    "site": self._site,
                    "source": self._source,
                    "person_key": item.person_key,
                    "role": item.role,
                    "given_name": item.given_name,
                    "family_name": item.family_name,
                    "groups": list(item.groups),
                    "active": True,
                    "created_ms": self._audit.at_ms,
                    "changed_ms": self._audit.at_ms,
                }
            )
            ids.append(self._identity(KEY, item.person_key, ref))
            if item.stable_id:
                ids.append(self._identity(STABLE, item.stable_id, ref))
            self._audit.note("person_create", ref, person_key=item.person_key)
        if people:
            self._connection.execute(insert(tables.person), people)
            self._connection.execute(insert(tables.identity), ids)

    def _identity(self, namespace: str, value: str, ref: str) -> dict[str, Any]:
        return {
            "source": self._source,
            "namespace": namespace,
            "value": value,
            "person": ref,
            "since_ms": self._audit.at_ms,
        }

    def _update(self, item: Update) -> None:
        person, identity = tables.person, tables.identity
        values = {name: new for name, (_, new) in item.changes.items() if name in _PERSON_FIELDS}
        if "groups" in values:
            values["groups"] = list(values["groups"])
        if values.get("active"):
            values["left_ms"] = None
        values["changed_ms"] = self._audit.at_ms
        self._connection.execute(update(person).where(person.c.ref == item.person).values(values))
        if "person_key" in item.changes:
            old_key, new_key = item.changes["person_key"]
            retired = {"retired_ms": self._audit.at_ms}
            self._connection.execute(
                update(identity)
                .where(identity.c.source == self._source, identity.c.namespace == KEY, identity.c.value == old_key)
                .values(retired)
            )
            if not insert_if_new(self._connection, identity, self._identity(KEY, new_key, item.person)):
                # The person's own earlier id is in use again.
                self._connection.execute(
                    update(identity)
                    .where(identity.c.source == self._source, identity.c.namespace == KEY, identity.c.value == new_key)
                    .values(retired_ms=None)
                )
        self._audit.note(
            "person_update", item.person, changes={name: list(pair) for name, pair in item.changes.items()}
        )

    def _remove(self, items: list[Remove]) -> None:
        person = tables.person
        gone = {"active": False, "left_ms": self._audit.at_ms, "changed_ms": self._audit.at_ms}
        for some in in_slices(item.person for item in items):
            self._connection.execute(update(person).where(person.c.ref.in_(some)).values(gone))
        for item in items:
            self._audit.note("person_remove", item.person, person_key=item.person_key)

    def _load_refs(self) -> None:
        identity = tables.identity
        query = select(identity.c.value, identity.c.person).where(
            identity.c.source == self._source, identity.c.namespace == KEY, identity.c.retired_ms.is_(None)
        )
        self._refs = {row.value: row.person for row in self._connection.execute(query)}

    def _states_of(self, cards: list[str]) -> dict[str, str]:
        card = tables.card
        states: dict[str, str] = {}
        for some in in_slices(cards):
            query = select(card.c.key, card.c.state).where(card.c.site == self._site, card.c.key.in_(some))
            states.update((row.key, row.state) for row in self._connection.execute(query))
        return states

    def _take(self, cards: dict[str, str]) -> None:
        card = tables.card
        by = {"state_by": origin_of(self._source), "changed_ms": self._audit.at_ms}
        for key, state in sorted(cards.items()):
            self._connection.execute(
                update(card).where(card.c.site == self._site, card.c.key == key).values(state=state, **by)
            )

    def _move(self, items: list[Move]) -> None:
        card, holding = tables.card, tables.holding
        for item in items:
            ref = self._refs[item.person_key]
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
            self._audit.note("card_move", ref, tail=item.tail, from_key=item.from_key)

    def _given(self, ref: str, state: str | None = None) -> dict[str, Any]:
        origin = origin_of(self._source)
        return {
            "person": ref,
            "state": state or self._new_card_state,
            "state_by": origin,
            "origin": origin,
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
            ref = self._refs[item.person_key]
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
