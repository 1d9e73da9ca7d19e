"""Assigns taps by an unknown card to its person once the card is known.

The event stays as it was journaled; the hub fills in the column `person` and notes the time in `matched_ms`.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, update

from gateway.hub.store import tables
from gateway.hub.store.holders import Holders
from gateway.hub.store.revisions import note_revised

_FILL = (
    update(tables.event)
    .where(tables.event.c.gateway == bindparam("of"))
    .where(tables.event.c.epoch == bindparam("in_epoch"))
    .where(tables.event.c.seq == bindparam("number"))
    .where(tables.event.c.person.is_(None))
    .values({"person": bindparam("who"), "matched_ms": bindparam("at")})
)


def match_taps(connection: Connection, at_ms: int) -> int:
    """Assign every unmatched tap to the person who held its card at the time; return how many."""
    event, card, holding = tables.event, tables.card, tables.holding
    query = (
        select(event.c.gateway, event.c.epoch, event.c.seq, event.c.site, event.c.card_key, event.c.at_ms)
        .join_from(event, card, (card.c.site == event.c.site) & (card.c.key == event.c.card_key))
        .where(event.c.person.is_(None), event.c.card_key.is_not(None))
        .where(select(holding.c.id).where(holding.c.card == card.c.id).exists())
    )
    taps = connection.execute(query).all()
    holders = Holders.load(connection, {(tap.site, tap.card_key) for tap in taps})
    found = []
    for tap in taps:
        person = holders.at(tap.site, tap.card_key, tap.at_ms)
        if person:
            key = {"of": tap.gateway, "in_epoch": tap.epoch, "number": tap.seq}
            found.append({**key, "who": person, "at": at_ms})
    if found:
        connection.execute(_FILL, found)
        note_revised(connection, [(row["of"], row["in_epoch"], row["number"]) for row in found])
    return len(found)
