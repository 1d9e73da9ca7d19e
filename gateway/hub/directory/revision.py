"""The revision of a site: a number that rises with every change a roster or a sync depends on.

Changes of people, cards, rules, holidays, policies and settings of a site raise it in their own transaction. The audit
has nothing to do with it: a line that changes none of these leaves it as it is, and no site's number moves another's.
"""

from __future__ import annotations

import zlib

from sqlalchemy import Connection, insert, select, text, update

from gateway.hub.store import tables

_TURN_LOCKS = 0x7A9A70


def in_turn(connection: Connection, site: str) -> None:
    """Serialise changes of one site from here to the end of the transaction; other sites go on.

    Take the turn before reading what is about to change: whoever compares the revision afterwards would otherwise miss
    a change that is not committed yet. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        number = zlib.crc32(site.encode()) & 0x7FFFFFFF
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_TURN_LOCKS}, {number})"))


def raise_revision(connection: Connection, site: str) -> None:
    """Say, in the transaction that makes the change, that the site is no longer what it was."""
    in_turn(connection, site)
    table = tables.site_change
    raised = update(table).where(table.c.site == site).values(n=table.c.n + 1)
    if not connection.execute(raised).rowcount:
        connection.execute(insert(table).values(site=site, n=1))


def revision_of(connection: Connection, site: str) -> int:
    """Return the revision of a site, 0 before its first change."""
    table = tables.site_change
    return connection.scalar(select(table.c.n).where(table.c.site == site)) or 0


def revisions(connection: Connection) -> dict[str, int]:
    """Return the revision of every site."""
    site, change = tables.site, tables.site_change
    query = select(site.c.id, change.c.n).select_from(site.outerjoin(change, change.c.site == site.c.id))
    return {name: number or 0 for name, number in connection.execute(query)}
