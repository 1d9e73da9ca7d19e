"""Manual changes to cards: link one, set its state, claim one that was linked in advance.

States: `prelinked` (known, not usable until claimed), `active`, `blocked`, `lost`, `replaced`. A state set here records
who set it, and a sync does not undo it.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, insert, select, update

from gateway.errors import RefusedError
from gateway.hub.directory.revision import in_turn, raise_revision
from gateway.hub.store import tables
from gateway.hub.store.audit import Audit

CardState = Literal["prelinked", "active", "blocked", "lost", "replaced"]
CARD_STATES: tuple[CardState, ...] = ("prelinked", "active", "blocked", "lost", "replaced")


def by_hand(name: str) -> str:
    """Return the actor of a change that a person makes."""
    return f"person:{name}"


def set_card_state(connection: Connection, card_id: int, state: CardState, audit: Audit) -> None:
    """Set the state of one card.

    Raises:
        RefusedError: there is no such card, or it belongs to nobody and cannot become active.
    """
    card = tables.card
    in_turn(connection, audit.site)
    row = connection.execute(select(card).where(card.c.id == card_id)).one_or_none()
    if row is None:
        raise RefusedError("There is no such card; reload the page.")
    if state == "active" and row.person is None:
        raise RefusedError("This card is not linked to anyone; link it to a person first.")
    if row.state == state:
        return
    changed = {"state": state, "state_by": audit.actor, "changed_ms": audit.at_ms}
    connection.execute(update(card).where(card.c.id == card_id).values(changed))
    raise_revision(connection, row.site, [row.key])
    audit.note("card_state", row.person or f"card {card_id}", tail=row.tail, old=row.state, new=state)


def link_card(connection: Connection, person_ref: str, key: str, tail: str, projection: str, audit: Audit) -> int:
    """Assign a card to a person by hand and make it usable at once; return the card's number.

    Raises:
        RefusedError: the person does not exist, or the card is in use by somebody else.
    """
    person, card, holding = tables.person, tables.card, tables.holding
    site = connection.scalar(select(person.c.site).where(person.c.ref == person_ref))
    if site is None:
        raise RefusedError("There is no such person; reload the page.")
    in_turn(connection, site)
    row = connection.execute(select(card).where(card.c.site == site, card.c.key == key)).one_or_none()
    if row is not None and row.person not in {None, person_ref}:
        raise RefusedError(f"The card ending {tail} belongs to another person; unlink it first.")
    values = {
        "person": person_ref,
        "state": "active",
        "state_by": audit.actor,
        "origin": audit.actor,
        "changed_ms": audit.at_ms,
    }
    if row is None:
        known = {"site": site, "key": key, "tail": tail, "projection": projection, "created_ms": audit.at_ms}
        card_id = connection.scalar(insert(card).values(**known, **values).returning(card.c.id))
    else:
        card_id = row.id
        connection.execute(update(card).where(card.c.id == card_id).values(values))
    assert card_id is not None
    if row is None or row.person is None:
        before = connection.scalar(select(holding.c.id).where(holding.c.card == card_id).limit(1))
        since_ms = audit.at_ms if before else None
        connection.execute(insert(holding).values(card=card_id, person=person_ref, since_ms=since_ms))
    raise_revision(connection, site, [key])
    audit.note("card_link", person_ref, tail=tail)
    return int(card_id)


def block_card(connection: Connection, key: str, tail: str, audit: Audit) -> None:
    """Block a card that belongs to nobody, so that it is no longer listed as unknown.

    Raises:
        RefusedError: somebody has it by now.
    """
    in_turn(connection, audit.site)
    card = tables.card
    known = connection.scalar(select(card.c.id).where(card.c.site == audit.site, card.c.key == key))
    if known is not None:
        raise RefusedError(f"The card ending {tail} is known by now; reload the page.")
    row = {"site": audit.site, "key": key, "tail": tail, "projection": "uid", "state": "blocked"}
    by = {"state_by": audit.actor, "origin": audit.actor, "created_ms": audit.at_ms, "changed_ms": audit.at_ms}
    connection.execute(insert(card).values(**row, **by))
    raise_revision(connection, audit.site, [key])
    audit.note("card_state", f"card {tail}", tail=tail, old=None, new="blocked")


def claim_prelinked(connection: Connection, site: str, person_key: str, audit: Audit) -> bool:
    """Activate the cards linked in advance to a student id; return whether there were any.

    An unknown id and one without a waiting card give the same answer.
    """
    person, card = tables.person, tables.card
    in_turn(connection, site)
    found = connection.execute(
        select(card.c.id, card.c.key, card.c.tail, person.c.ref)
        .join_from(card, person, card.c.person == person.c.ref)
        .where(person.c.site == site, person.c.person_key == person_key, card.c.state == "prelinked")
        .where(person.c.state.in_(("active", "missing")))
    ).all()
    for row in found:
        changed = {"state": "active", "changed_ms": audit.at_ms}
        connection.execute(update(card).where(card.c.id == row.id).values(changed))
        audit.note("card_claim", row.ref, tail=row.tail)
    if found:
        raise_revision(connection, site, [row.key for row in found])
    return bool(found)
