"""The revision of a site: a number that rises with every change a roster or a sync depends on.

Changes of people, cards, rules, holidays, policies and settings of a site raise it in their own transaction. The audit
has nothing to do with it: a line that changes none of these leaves it as it is, and no site's number moves another's.

A change that knows its cards names them, so that a roster need not be read anew for them; any other concerns the whole
site.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select, text, update

from gateway.hub.store import tables

MOST_TOUCHED = 5_000
_TURN_LOCKS = 0x7A9A70


def in_turn(connection: Connection, site: str) -> None:
    """Serialise changes of one site from here to the end of the transaction; other sites go on.

    Take the turn before reading what is about to change: whoever compares the revision afterwards would otherwise miss
    a change that is not committed yet. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        number = zlib.crc32(site.encode()) & 0x7FFFFFFF
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_TURN_LOCKS}, {number})"))


def raise_revision(connection: Connection, site: str, cards: Collection[str] | None = None) -> None:
    """Say, in the transaction that makes the change, that the site is no longer what it was.

    Args:
        cards: keys of the only cards that the change concerns; None when it may concern anything.
    """
    in_turn(connection, site)
    table, touched = tables.site_change, tables.site_change_card
    number = revision_of(connection, site) + 1
    values = {"n": number} if cards is not None else {"n": number, "whole_n": number}
    if number == 1:
        connection.execute(insert(table).values(site=site, **values))
    else:
        connection.execute(update(table).where(table.c.site == site).values(values))
    if cards:
        connection.execute(insert(touched), [{"site": site, "n": number, "key": key} for key in set(cards)])


def touched_since(connection: Connection, site: str, revision: int) -> set[str] | None:
    """Return the keys of the only cards that changed after a revision; None when more may have changed."""
    table, touched = tables.site_change, tables.site_change_card
    whole = connection.scalar(select(table.c.whole_n).where(table.c.site == site)) or 0
    if whole > revision:
        return None
    query = select(touched.c.key).where(touched.c.site == site, touched.c.n > revision).limit(MOST_TOUCHED + 1)
    keys = connection.scalars(query).all()
    return set(keys) if len(keys) <= MOST_TOUCHED else None


def forget_touched(connection: Connection, site: str, revision: int) -> None:
    """Forget which cards changed up to a revision that every roster to come starts from."""
    touched = tables.site_change_card
    connection.execute(delete(touched).where(touched.c.site == site, touched.c.n <= revision))


def revision_of(connection: Connection, site: str) -> int:
    """Return the revision of a site, 0 before its first change."""
    table = tables.site_change
    return connection.scalar(select(table.c.n).where(table.c.site == site)) or 0


def revisions(connection: Connection) -> dict[str, int]:
    """Return the revision of every site."""
    site, change = tables.site, tables.site_change
    query = select(site.c.id, change.c.n).select_from(site.outerjoin(change, change.c.site == site.c.id))
    return {name: number or 0 for name, number in connection.execute(query)}
